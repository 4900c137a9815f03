//! HTTP below the level of requests: heads and bodies without end, slow clients and connections that stay. Also request
//! smuggling: bytes that two readers might take for different requests.

mod bodies;
mod connections;
mod framing;

use anyhow::Context as _;
use hookline_acceptance::sentences;
use hookline_acceptance::suite::{Alone, Shared};
use hookline_testkit::deployment::Home;
use hookline_testkit::tenant::Tenant;
use serde_json::Value;

pub(crate) fn shared() -> Vec<Shared> {
    sentences![
        framing::a_head_is_limited_in_bytes_and_headers,
        framing::bytes_that_could_be_two_requests_are_none,
        framing::requests_in_one_go_are_answered_in_their_order,
        framing::another_version_of_http_is_refused,
        bodies::a_body_is_limited_on_every_route_that_takes_one,
        bodies::a_body_that_nobody_asked_for_is_passed_over,
        bodies::json_of_any_depth_is_refused_and_ends_nothing,
        bodies::what_is_wrong_with_a_body_is_listed_in_64_kib,
        bodies::one_key_cannot_hold_the_room_for_bodies,
        connections::who_sends_a_byte_a_second_is_cut_off,
    ]
}

pub(crate) fn alone() -> Vec<Alone> {
    sentences![
        connections::idle_connections_keep_nobody_out,
        connections::clients_that_read_nothing_cost_little_memory,
    ]
}

/// A key of a tenant, as a header.
async fn bearer(home: &Home, tenant: &Tenant<'_>) -> anyhow::Result<String> {
    let key = home.key(&["--org", &tenant.organization]).await?;
    Ok(format!("Authorization: Bearer {key}"))
}

/// A call of the document.
struct Call {
    method: String,
    /// With an id that does not exist.
    path: String,
    takes_a_body: bool,
}

async fn calls(home: &Home) -> anyhow::Result<Vec<Call>> {
    let url = format!("{}/openapi.json", home.api());
    let document: Value = reqwest::get(url).await?.json().await?;
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
