//! Test calls.

use super::*;

/// The body that the receiver of a test gets.
async fn sent(api: &TestApi, id: i64, body: &str) -> String {
    let test = format!("/webhooks/{id}/test");
    let response = api.send(raw(TestRequest::post().uri(&test), body)).await;
    assert_eq!(response.status, 202, "{response:?}");
    let event = format!("/events/{}", response.json()["event_id"].as_str().unwrap());
    let story = api.get(&event).await.json();
    assert_eq!(story["subscriptions"].as_array().unwrap().len(), 1);
    story["body"].as_str().unwrap().to_owned()
}

#[actix_web::test]
async fn a_test_call_sends_the_given_type_and_the_bytes_of_data() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let data = r#"{ "b":1.00000000000000000001, "a" : "\u0041\/", "b":[ 1e400 ]}"#;
    let body = sent(
        &api,
        id,
        &format!(r#"{{"event_type":"workflow.step.failed","data": {data}}}"#),
    )
    .await;
    assert!(body.ends_with(&format!(r#""data":{data}}}"#)), "{body}");
    assert!(
        body.contains(r#""event_type":"workflow.step.failed""#),
        "{body}"
    );
    let by_default = sent(&api, id, "{}").await;
    assert!(
        by_default.contains(r#""event_type":"workflow.completed""#),
        "{by_default}"
    );
    assert!(by_default.contains("This is a test event"), "{by_default}");
}

#[actix_web::test]
async fn a_test_call_names_every_bad_field_and_is_bounded() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    let test = format!("/webhooks/{id}/test");
    let body = json!({"event_type": "workflow.*", "data": [1], "workflow_id": "w"});
    let bad = api.post(&test, body).await;
    assert_eq!(bad.invalid_fields(), "workflow_id event_type data");
    for (body, status) in [("[]", 422), ("{", 400), (" ", 400)] {
        let response = api.send(raw(TestRequest::post().uri(&test), body)).await;
        response.is_problem(status);
    }
    let sized = |bytes: usize| json!({"data": {"p": "x".repeat(bytes)}});
    assert_eq!(api.post(&test, sized(255 * 1024)).await.status, 202);
    api.post(&test, sized(256 * 1024)).await.is_problem(422);
    api.post(&test, sized(258 * 1024)).await.is_problem(413);
}
