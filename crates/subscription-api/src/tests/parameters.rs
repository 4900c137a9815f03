//! No query parameter is ignored in silence.

use actix_web::http::Method;

use super::*;

#[actix_web::test]
async fn every_route_refuses_a_parameter_that_it_does_not_know() {
    let world = World::new().await;
    let document = world.get("/openapi.json").await.json();
    let mut calls = vec![("/".to_owned(), Method::GET)];
    for (path, item) in document["paths"].as_object().unwrap() {
        let id = match path.starts_with("/webhooks/") {
            true => "1",
            false => "00000000-0000-0000-0000-000000000000",
        };
        let path = path.replace("{id}", id).replace("{event_id}", "e");
        for method in item.as_object().unwrap().keys() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            calls.push((format!("/v1{path}"), method.clone()));
            calls.push((path.clone(), method));
        }
    }
    assert!(calls.len() > 40, "{}", calls.len());
    for (path, method) in calls {
        let uri = format!("{path}?nope&dry_run=true&nope=1");
        let request = TestRequest::default().uri(&uri).method(method.clone());
        let refused = world.send(keyed(request).set_json(json!({}))).await;
        refused.is_problem(422);
        assert_eq!(refused.bad_fields(), "nope dry_run nope", "{method} {path}");
        if method == Method::GET {
            let head = TestRequest::default().uri(&uri).method(Method::HEAD);
            assert_eq!(world.send(keyed(head)).await.status, 422, "HEAD {path}");
        }
    }
}

#[actix_web::test]
async fn a_replay_with_dry_run_in_its_query_starts_nothing() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    world.exhausted(id, "e").await;
    let path = format!("/webhooks/{id}/replay?dry_run=true");
    let refused = world.post(&path, json!({})).await;
    assert_eq!(refused.bad_fields(), "dry_run");
    let stranger = world.send(TestRequest::post().uri(&path)).await;
    stranger.is_problem(401);
    let counted = json!({"dry_run": true});
    let counted = world.post(&format!("/webhooks/{id}/replay"), counted).await;
    assert_eq!(counted.json(), json!({"count": 1}));
}
