//! Where one can go from an answer: the ids in it are what other calls ask for. Programs that walk
//! the document, testers among them, get to real deliveries by these.

use utoipa::openapi::link::Link;
use utoipa::openapi::path::Operation;
use utoipa::openapi::{OpenApi, RefOr};

/// From the answer of one call to others.
struct Way {
    from: &'static str,
    status: &'static str,
    /// Where the answer has the id.
    id: &'static str,
    /// What the calls name it.
    parameter: &'static str,
    to: &'static [&'static str],
}

const WAYS: [Way; 6] = [
    Way {
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
            "rotateWebhookSecret",
        ],
    },
    Way {
        from: "testWebhook",
        status: "202",
        id: "$response.body#/delivery_id",
        parameter: "id",
        to: &["getDelivery", "retryDelivery"],
    },
    Way {
        from: "testWebhook",
        status: "202",
        id: "$response.body#/event_id",
        parameter: "event_id",
        to: &["getEvent"],
    },
    Way {
        from: "retryDelivery",
        status: "202",
        id: "$response.body#/delivery_id",
        parameter: "id",
        to: &["getDelivery"],
    },
    Way {
        from: "replayWebhook",
        status: "202",
        id: "$response.body#/replay_id",
        parameter: "id",
        to: &["getReplay", "cancelReplay"],
    },
    Way {
        from: "publishEvents",
        status: "202",
        id: "$response.body#/accepted/0",
        parameter: "event_id",
        to: &["getEvent"],
    },
];

/// Adds them to the document.
pub(super) fn add(document: &mut OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.post, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            let id = operation.operation_id.clone().unwrap_or_default();
            for way in WAYS.iter().filter(|way| way.from == id) {
                lead(operation, way);
            }
        }
    }
}

fn lead(operation: &mut Operation, way: &Way) {
    let answers = &mut operation.responses.responses;
    let Some(RefOr::T(answer)) = answers.get_mut(way.status) else {
        return;
    };
    for to in way.to {
        let link = Link::builder()
            .operation_id(*to)
            .parameter(way.parameter, way.id)
            .build();
        answer.links.insert((*to).to_owned(), RefOr::T(link));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_way_begins_at_an_answer_and_leads_to_a_call_with_that_parameter() {
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
        for way in &WAYS {
            for to in way.to {
                let links = &find(way.from)["responses"][way.status]["links"];
                assert_eq!(links[to]["parameters"][way.parameter], way.id);
                let parameters = find(to)["parameters"].as_array().unwrap();
                assert!(
                    parameters
                        .iter()
                        .any(|parameter| parameter["name"] == way.parameter)
                );
            }
        }
    }
}
