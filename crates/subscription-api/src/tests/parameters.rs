//! Unknown query parameters are errors.

use actix_web::http::Method;

use super::*;

#[actix_web::test]
async fn every_route_rejects_an_unknown_parameter() {
    let api = TestApi::new().await;
    let document = api.get("/openapi.json").await.json();
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
        let rejected = api.send(keyed(request).set_json(json!({}))).await;
        rejected.is_problem(422);
        assert_eq!(
            rejected.invalid_fields(),
            "nope dry_run nope",
            "{method} {path}"
        );
        if method == Method::GET {
            let head = TestRequest::default().uri(&uri).method(Method::HEAD);
            assert_eq!(api.send(keyed(head)).await.status, 422, "HEAD {path}");
        }
    }
}

#[actix_web::test]
async fn a_replay_with_dry_run_in_its_query_starts_nothing() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    api.exhausted(id, "e").await;
    let path = format!("/webhooks/{id}/replay?dry_run=true");
    let rejected = api.post(&path, json!({})).await;
    assert_eq!(rejected.invalid_fields(), "dry_run");
    let without_key = api.send(TestRequest::post().uri(&path)).await;
    without_key.is_problem(401);
    let counted = json!({"dry_run": true});
    let counted = api.post(&format!("/webhooks/{id}/replay"), counted).await;
    assert_eq!(counted.json(), json!({"count": 1}));
}
