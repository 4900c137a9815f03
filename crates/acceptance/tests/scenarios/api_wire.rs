//! HTTP below the level of requests: heads and bodies without end, slow clients and connections that stay. Also request
//! smuggling: bytes that two readers might take for different requests.

mod bodies;
mod connections;
mod framing;

use anyhow::Context as _;
use hookline_acceptance::scenarios;
use hookline_acceptance::suite::{IsolatedScenario, SharedScenario};
use hookline_testkit::deployment::Deployment;
use hookline_testkit::tenant::Tenant;
use serde_json::Value;

pub(crate) fn shared() -> Vec<SharedScenario> {
    scenarios![
        framing::a_head_is_limited_in_bytes_and_headers,
        framing::ambiguous_framing_is_refused_as_request_smuggling,
        framing::pipelined_requests_are_answered_in_order,
        framing::another_version_of_http_is_refused,
        bodies::a_body_is_limited_on_every_route_that_takes_one,
        bodies::an_unexpected_body_is_ignored,
        bodies::json_of_any_depth_is_refused_and_ends_nothing,
        bodies::the_errors_of_a_body_are_listed_in_at_most_64_kib,
        bodies::one_key_cannot_use_up_the_memory_for_bodies,
        connections::a_client_that_sends_a_byte_a_second_is_disconnected,
    ]
}

pub(crate) fn isolated() -> Vec<IsolatedScenario> {
    scenarios![
        connections::idle_connections_do_not_block_new_clients,
        connections::clients_that_read_no_responses_use_little_memory,
    ]
}

/// A key of a tenant, as a header.
async fn bearer(deployment: &Deployment, tenant: &Tenant<'_>) -> anyhow::Result<String> {
    let key = deployment.key(&["--org", &tenant.organization]).await?;
    Ok(format!("Authorization: Bearer {key}"))
}

/// A call of the document.
struct Call {
    method: String,
    /// With an id that does not exist.
    path: String,
    takes_a_body: bool,
}

async fn calls(deployment: &Deployment) -> anyhow::Result<Vec<Call>> {
    let url = format!("{}/openapi.json", deployment.api());
    let document: Value = hookline_testkit::http::get(url).await?.json().await?;
    let mut calls = Vec::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("operations")? {
            if operation["operationId"].is_null() {
                continue;
            }
            let path = match path.split_once('{') {
                Some((before, after)) => {
                    let (_, after) = after.split_once('}').context("an open brace")?;
                    let is_uuid = operation["parameters"][0]["schema"]["format"] == "uuid";
                    let id = match is_uuid {
                        true => "00000000-0000-4000-8000-000000000000",
                        false => "9007199254740991",
                    };
                    format!("{before}{id}{after}")
                }
                None => path.clone(),
            };
            calls.push(Call {
                method: method.to_uppercase(),
                path,
                takes_a_body: operation.get("requestBody").is_some(),
            });
        }
    }
    Ok(calls)
}
