//! Links: ids of a response that are parameters of other calls. With them, tools that test the API find existing ids.

use utoipa::openapi::link::Link;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, RefOr};

/// Links from the response of one call to other calls.
struct Links {
    from: &'static str,
    status: &'static str,
    /// The position of the id in the response.
    id: &'static str,
    /// The name of the parameter.
    parameter: &'static str,
    to: &'static [&'static str],
}

const LINKS: [Links; 8] = [
    Links {
        from: "createWebhook",
        status: "201",
        id: "$response.body#/id",
        parameter: "id",
        to: &[
            "getWebhook",
            "updateWebhook",
            "deleteWebhook",
            "testWebhook",
            "listWebhookLogs",
            "listWebhookDeliveries",
            "replayWebhook",
            "replayMissing",
            "rotateWebhookSecret",
        ],
    },
    Links {
        from: "testWebhook",
        status: "202",
        id: "$response.body#/delivery_id",
        parameter: "id",
        to: &["getDelivery", "retryDelivery", "cancelDelivery"],
    },
    Links {
        from: "testWebhook",
        status: "202",
        id: "$response.body#/event_id",
        parameter: "event_id",
        to: &["getEvent"],
    },
    Links {
        from: "retryDelivery",
        status: "202",
        id: "$response.body#/delivery_id",
        parameter: "id",
        to: &["getDelivery"],
    },
    Links {
        from: "replayWebhook",
        status: "202",
        id: "$response.body#/replay_id",
        parameter: "id",
        to: &["getReplay", "cancelReplay"],
    },
    Links {
        from: "replay",
        status: "202",
        id: "$response.body#/replay_id",
        parameter: "id",
        to: &["getReplay", "cancelReplay"],
    },
    Links {
        from: "replayMissing",
        status: "202",
        id: "$response.body#/replay_id",
        parameter: "id",
        to: &["getReplay", "cancelReplay"],
    },
    Links {
        from: "publishEvents",
        status: "202",
        id: "$response.body#/accepted/0",
        parameter: "event_id",
        to: &["getEvent"],
    },
];

pub(super) fn add(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            let id = operation.operation_id.clone().unwrap_or_default();
            for links in LINKS.iter().filter(|links| links.from == id) {
                add_links(operation, links);
            }
        }
    }
}

fn add_links(operation: &mut Operation, links: &Links) {
    let responses = &mut operation.responses.responses;
    let Some(RefOr::T(response)) = responses.get_mut(links.status) else {
        return;
    };
    for to in links.to {
        let link = Link::builder()
            .operation_id(*to)
            .parameter(links.parameter, links.id)
            .build();
        response.links.insert((*to).to_owned(), RefOr::T(link));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_link_has_a_response_and_a_call_with_its_parameter() {
        let document: Value = serde_json::from_str(crate::openapi::document()).unwrap();
        let operations: Vec<&Value> = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values())
            .collect();
        let find = |id: &str| {
            let found = operations
                .iter()
                .find(|operation| operation["operationId"] == id);
            found.unwrap_or_else(|| panic!("no operation is called {id}"))
        };
        for links in &LINKS {
            for to in links.to {
                let documented = &find(links.from)["responses"][links.status]["links"];
                assert_eq!(documented[to]["parameters"][links.parameter], links.id);
                let parameters = find(to)["parameters"].as_array().unwrap();
                assert!(
                    parameters
                        .iter()
                        .any(|parameter| parameter["name"] == links.parameter)
                );
            }
        }
    }
}
