//! The OpenAPI document, generated from the handlers and their types. The parts that all calls share are added here: the
//! key, the errors and common headers.

mod enums;
mod links;
mod problems;

use std::sync::LazyLock;

use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Object, Ref, RefOr, Required, Type};
use utoipa::{Modify, OpenApi};

use crate::error::problem::Problem;
use crate::routes::{
    cancel, deliveries, docs, event_details, event_list, event_types, events, health, logs,
    replay_list, replays, retry, secrets, stats, stream, test_delivery, webhooks,
};

pub(crate) fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> =
        LazyLock::new(|| Document::openapi().to_json().unwrap_or_default());
    &DOCUMENT
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Hookline",
        description = "Hookline turns workflow events into signed webhook deliveries.\n\n\
            Every call needs an API key: `Authorization: Bearer <api key>`. A key belongs to one or more \
            organizations. `X-Org-Id` selects the organization of a request; without it, it is the key's \
            default organization. Times are RFC 3339 in UTC.\n\n\
            Errors are `application/problem+json` (RFC 9457) and name all invalid fields, at most 100. An \
            unknown query parameter or field is 422. 429 with `Retry-After`: beyond a rate limit or a limit of \
            simultaneous requests. 413: a body of more than 64 KiB, or 8 MiB for `POST /events`. 408: the body \
            did not arrive within 5 seconds, and the request has had no effect. 503 with `Retry-After`: the \
            service is unavailable, or the request took longer than 5 seconds.\n\n\
            Every response has an `X-Request-Id`, which is also in the log. It is the `X-Request-Id` of the \
            request, if that is 1 to 128 visible ASCII characters, and otherwise a new one.",
    ),
    servers(
        (url = "/v1", description = "This version"),
        (url = "/", description = "This version, without a prefix"),
    ),
    tags(
        (name = "Subscriptions", description = "The targets of events"),
        (name = "Logs", description = "Deliveries, attempts, replays and their numbers"),
        (name = "Events", description = "Publishing without a broker client"),
        (name = "Operation", description = "Health checks and documentation, without a key"),
    ),
    paths(
        webhooks::create, webhooks::list, webhooks::show, webhooks::change, webhooks::delete,
        secrets::rotate, test_delivery::send, retry::start, cancel::cancel, replays::of_subscription, replays::of_missing,
        replays::of_organization, replay_list::list, replay_list::show, replay_list::cancel,
        logs::of_subscription, logs::of_organization, deliveries::of_subscription,
        deliveries::of_organization, deliveries::show, events::publish, event_list::list, event_details::show,
        event_types::list, stats::show, stream::follow,
        health::alive, health::ready, docs::openapi, docs::page,
    ),
    components(schemas(
        Problem, stream::DeliveryEvent, stream::SubscriptionEvent, stream::DroppedEvent,
    )),
    modifiers(&SharedParts),
)]
struct Document;

struct SharedParts;

impl Modify for SharedParts {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let key = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("An API key"))
            .build();
        components.add_security_scheme("api_key", SecurityScheme::Http(key));
        for mut problem in problems::all() {
            problems::add_request_id(&mut problem.response);
            components
                .responses
                .insert(problem.name.to_owned(), RefOr::T(problem.response));
        }
        for item in document.paths.paths.values_mut() {
            let operations = [
                &mut item.get,
                &mut item.post,
                &mut item.patch,
                &mut item.delete,
            ];
            for operation in operations.into_iter().flatten() {
                match operation.security {
                    Some(_) => complete_authenticated(operation),
                    None => complete_public(operation),
                }
                for response in operation.responses.responses.values_mut() {
                    if let RefOr::T(response) = response {
                        problems::add_request_id(response);
                    }
                }
            }
        }
        links::add(document);
        enums::add(document);
    }
}

/// Adds the header and the responses of a call with a key.
fn complete_authenticated(operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    let has = |place: ParameterIn| {
        parameters.iter().any(
            |parameter| matches!(parameter, RefOr::T(parameter) if parameter.parameter_in == place),
        )
    };
    let in_path = has(ParameterIn::Path);
    let organization = ParameterBuilder::new()
        .name("X-Org-Id")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The organization; by default, the key's default organization",
        ))
        .schema(Some(Object::with_type(Type::String)))
        .example(Some("org_123".into()))
        .build();
    parameters.push(RefOr::T(organization));

    // utoipa cannot express an optional body.
    let id = operation.operation_id.as_deref().unwrap_or_default();
    let optional = [
        "rotateWebhookSecret",
        "testWebhook",
        "retryDelivery",
        "cancelDelivery",
    ]
    .contains(&id);
    if let Some(RefOr::T(body)) = operation.request_body.as_mut().filter(|_| optional) {
        body.required = Some(Required::False);
    }

    let mut statuses = vec![401, 403, 421, 422, 429, 500, 503, 508];
    if in_path {
        statuses.push(404);
    }
    if operation.request_body.is_some() {
        statuses.extend([400, 408, 413, 415]);
    }
    let responses = &mut operation.responses.responses;
    // A call that can answer these lists them; the shared form replaces its own.
    for status in [404, 409, 412] {
        if responses.remove(&status.to_string()).is_some() {
            statuses.push(status);
        }
    }
    add_problems(operation, &statuses);
}

/// Documents that no key is needed, and adds the responses of such a call.
fn complete_public(operation: &mut Operation) {
    operation.security = Some(Vec::new());
    let id = operation.operation_id.as_deref();
    match id.is_some_and(|id| ["healthz", "readyz"].contains(&id)) {
        true => add_problems(operation, &[421, 422, 500, 503]),
        false => add_problems(operation, &[421, 422, 429, 500, 503, 508]),
    }
}

/// Adds the problems with these statuses, except those that the call describes itself.
fn add_problems(operation: &mut Operation, statuses: &[u16]) {
    let responses = &mut operation.responses.responses;
    for problem in problems::all() {
        if statuses.contains(&problem.status) {
            responses
                .entry(problem.status.to_string())
                .or_insert_with(|| RefOr::Ref(Ref::from_response_name(problem.name)));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn parsed() -> Value {
        serde_json::from_str(document()).unwrap()
    }

    #[test]
    fn the_document_is_openapi_3_1_and_has_every_call() {
        let document = parsed();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let calls: Vec<String> = document["paths"]
            .as_object()
            .unwrap()
            .iter()
            .flat_map(|(path, item)| {
                let item = item.as_object().unwrap();
                item.iter().map(move |(method, operation)| {
                    let statuses: Vec<&str> = operation["responses"]
                        .as_object()
                        .unwrap()
                        .keys()
                        .map(String::as_str)
                        .collect();
                    format!("{method} {path}: {}", statuses.join(" "))
                })
            })
            .collect();
        insta::assert_snapshot!(calls.join("\n"), @r"
        get /deliveries: 200 401 403 421 422 429 500 503 508
        get /deliveries/{id}: 200 401 403 404 421 422 429 500 503 508
        post /deliveries/{id}/cancel: 202 400 401 403 404 408 409 413 415 421 422 429 500 503 508
        post /deliveries/{id}/retry: 202 400 401 403 404 408 409 413 415 421 422 429 500 503 508
        get /docs: 200 421 422 429 500 503 508
        get /event-types: 200 401 403 421 422 429 500 503 508
        get /events: 200 401 403 421 422 429 500 503 508
        post /events: 202 400 401 403 408 413 415 421 422 429 500 503 508
        get /events/{event_id}: 200 401 403 404 421 422 429 500 503 508
        get /healthz: 200 421 422 500 503
        get /openapi.json: 200 421 422 429 500 503 508
        get /readyz: 200 421 422 500 503
        get /replays: 200 401 403 421 422 429 500 503 508
        post /replays: 200 202 400 401 403 404 408 409 413 415 421 422 429 500 503 508
        delete /replays/{id}: 204 401 403 404 421 422 429 500 503 508
        get /replays/{id}: 200 401 403 404 421 422 429 500 503 508
        get /stats: 200 401 403 404 421 422 429 500 503 508
        get /stream: 200 401 403 421 422 429 500 503 508
        get /webhooks: 200 401 403 421 422 429 500 503 508
        post /webhooks: 201 400 401 403 408 409 413 415 421 422 429 500 503 508
        get /webhooks/logs/all: 200 401 403 421 422 429 500 503 508
        delete /webhooks/{id}: 204 401 403 404 412 421 422 429 500 503 508
        get /webhooks/{id}: 200 304 401 403 404 412 421 422 429 500 503 508
        patch /webhooks/{id}: 200 400 401 403 404 408 412 413 415 421 422 429 500 503 508
        get /webhooks/{id}/deliveries: 200 401 403 404 421 422 429 500 503 508
        get /webhooks/{id}/logs: 200 401 403 404 421 422 429 500 503 508
        post /webhooks/{id}/replay: 200 202 400 401 403 404 408 409 413 415 421 422 429 500 503 508
        post /webhooks/{id}/replay-missing: 200 202 400 401 403 404 408 409 413 415 421 422 429 500 503 508
        post /webhooks/{id}/secret/rotate: 200 400 401 403 404 408 409 412 413 415 421 422 429 500 503 508
        post /webhooks/{id}/test: 202 400 401 403 404 408 409 413 415 421 422 429 500 503 508
        ");
    }

    /// Scenarios test every call of the document, so a missing call would not be tested.
    #[test]
    fn every_registered_route_is_documented() {
        let document = parsed();
        let routes = include_str!("routes.rs");
        let (_, registered) = routes.split_once("fn register(").unwrap();
        let (registered, _) = registered.split_once("\n}").unwrap();
        let mut calls = 0;
        for route in registered.split("at(\"").skip(1) {
            let (path, handlers) = route.split_once('"').unwrap();
            for method in ["get", "post", "put", "patch", "delete"] {
                let reads = method == "get" && handlers.contains(".get_with_query(");
                if reads || handlers.contains(&format!(".{method}(")) {
                    calls += 1;
                    let documented = &document["paths"][path][method];
                    assert!(documented.is_object(), "{method} {path}");
                    let parameters = documented["parameters"].as_array();
                    let in_query =
                        parameters.is_some_and(|all| all.iter().any(|one| one["in"] == "query"));
                    assert_eq!(in_query, reads, "{method} {path}");
                    let public = handlers.contains(".public(");
                    let keyless = documented["security"] == Value::Array(Vec::new());
                    assert_eq!(keyless, public, "{method} {path}");
                }
            }
        }
        assert!(calls > 15, "{calls}");
    }

    #[test]
    fn every_reference_has_a_target() {
        fn check(document: &Value, value: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    members.values().for_each(|inner| check(document, inner));
                }
                Value::Array(items) => items.iter().for_each(|inner| check(document, inner)),
                _ => {}
            }
        }
        let document = parsed();
        check(&document, &document);
    }
}
