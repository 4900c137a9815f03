//! Authentication and authorization.

use actix_web::body::BoxBody;
use actix_web::dev::ServiceRequest;
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, web};
use hookline_core::rate_limit::Rate;
use hookline_store::current_key;

use super::*;
use crate::middleware::auth;

#[actix_web::test]
async fn without_a_valid_key_every_path_is_401() {
    let api = TestApi::new().await;
    for key in [
        None,
        Some("Bearer unknown"),
        Some("Basic a2V5"),
        Some("Bearer "),
    ] {
        for path in [
            "/v1/webhooks",
            "/webhooks/1",
            "/webhooks/nope",
            "/webhooks/logs/all",
        ] {
            let request = TestRequest::get().uri(path);
            let response = match key {
                Some(key) => api.send(request.insert_header(("authorization", key))),
                None => api.send(request),
            };
            let response = response.await;
            response.is_problem(401);
            assert!(response.header("www-authenticate").starts_with("Bearer"));
        }
    }
    // An unknown path is 404 with and without a key.
    let unknown = api.send(TestRequest::get().uri("/v1/nope")).await;
    unknown.is_problem(404);
    let detail = |response: &TestResponse| response.json()["detail"].clone();
    assert_eq!(detail(&unknown), detail(&api.get("/v1/nope").await));
}

#[actix_web::test]
async fn an_invalid_key_is_401_before_the_body_is_read() {
    let api = TestApi::new().await;
    let request = TestRequest::post().uri("/events").set_payload("nonsense");
    api.send(request).await.is_problem(401);
}

#[actix_web::test]
async fn a_key_has_access_to_its_own_organizations_only() {
    let api = TestApi::new().await;
    let id = api.subscribe("of a").await;
    let path = format!("/v1/webhooks/{id}");
    let as_org = |name: &str| {
        keyed(TestRequest::get().uri(&path)).insert_header(("X-Org-Id", name.to_owned()))
    };
    assert_eq!(api.send(as_org("org_a")).await.status, 200);
    api.send(as_org("org_b")).await.is_problem(404);
    for name in ["org_c", "org_that_is_not", ""] {
        api.send(as_org(name)).await.is_problem(403);
    }
    let twice = as_org("org_a").append_header(("X-Org-Id", "org_b"));
    api.send(twice).await.is_problem(403);
}

#[actix_web::test]
async fn every_call_needs_its_scope() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    for scope in Scope::ALL {
        api.add_key(scope.as_str(), &["org_a"], &[scope]).await;
    }
    let one = format!("/webhooks/{id}");
    let calls = [
        (
            TestRequest::get as fn() -> TestRequest,
            "/webhooks".to_owned(),
            Scope::Read,
        ),
        (TestRequest::get, one.clone(), Scope::Read),
        (TestRequest::get, format!("{one}/logs"), Scope::Read),
        (TestRequest::get, format!("{one}/deliveries"), Scope::Read),
        (TestRequest::get, "/deliveries/1".to_owned(), Scope::Read),
        (TestRequest::get, "/events/1".to_owned(), Scope::Read),
        (
            TestRequest::get,
            "/webhooks/logs/all".to_owned(),
            Scope::Read,
        ),
        (TestRequest::post, "/webhooks".to_owned(), Scope::Write),
        (TestRequest::patch, one.clone(), Scope::Write),
        (TestRequest::delete, one.clone(), Scope::Write),
        (TestRequest::post, format!("{one}/test"), Scope::Write),
        (TestRequest::post, "/events".to_owned(), Scope::Publish),
    ];
    for (request, path, needed) in calls {
        for scope in Scope::ALL.into_iter().filter(|scope| *scope != needed) {
            let request = request()
                .uri(&path)
                .insert_header(("authorization", format!("bearer {scope}")));
            let response = api.send(request).await;
            response.is_problem(403);
            assert!(response.text.contains(needed.as_str()), "{response:?}");
        }
    }
    let reader = TestRequest::get()
        .uri("/webhooks")
        .insert_header(("authorization", "bearer read"));
    assert_eq!(api.send(reader).await.status, 200);
}

#[actix_web::test]
async fn resources_of_other_organizations_are_not_found() {
    let api = TestApi::new().await;
    let id = api.subscribe("n").await;
    api.add_key("of c", &["org_c"], &Scope::ALL).await;
    api.add_key("key-of-c", &["org_c"], &Scope::ALL).await;
    let as_c = |request: TestRequest| request.insert_header(("authorization", "Bearer key-of-c"));
    let one = format!("/webhooks/{id}");
    let logs = format!("{one}/logs");
    let test = format!("{one}/test");
    for request in [
        TestRequest::get().uri(&one),
        TestRequest::get().uri(&logs),
        TestRequest::delete().uri(&one),
        TestRequest::patch().uri(&one).set_json(json!({})),
        TestRequest::post().uri(&test),
    ] {
        api.send(as_c(request)).await.is_problem(404);
    }
    assert_eq!(api.get(&one).await.status, 200);
}

#[actix_web::test]
async fn requests_of_a_key_at_the_same_time_are_limited() {
    let api = TestApi::with(ApiConfig {
        max_requests_per_key: 1,
        ..impatient()
    })
    .await;
    api.set_publisher(PublisherMode::Hanging);
    let hanging = api.post("/events", event("e"));
    let other = async {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        api.get("/webhooks").await
    };
    let (hanging, other) = tokio::join!(hanging, other);
    other.is_problem(429);
    hanging.is_problem(503);
    assert_eq!(api.get("/webhooks").await.status, 200);
}

#[actix_web::test]
async fn a_handler_uses_the_store_connections_of_its_key() {
    let api = TestApi::new().await;
    api.add_key("other", &["org_c"], &Scope::ALL).await;
    let service = api.server.state.clone();
    let key_in_use = || async { format!("{:?}", current_key().map(|key| key.0)) };
    let enter = move |request: ServiceRequest, next: Next<BoxBody>| {
        auth::authenticate(service.clone(), Scope::Write, request, next)
    };
    let resource = web::resource("/key").route(web::get().to(key_in_use));
    let app = init_service(App::new().service(resource.wrap(from_fn(enter)))).await;
    let mut bodies = Vec::new();
    for key in [KEY, "other"] {
        let request = TestRequest::get()
            .uri("/key")
            .insert_header(("authorization", format!("Bearer {key}")));
        bodies.push(read_body(call_service(&app, request.to_request()).await).await);
    }
    assert_eq!(bodies, ["Some(1)", "Some(2)"]);
    assert_eq!(current_key(), None);
}

#[actix_web::test]
async fn a_valid_key_is_accepted_although_its_address_sent_wrong_keys() {
    let api = TestApi::with(ApiConfig {
        failed_auth_rate: Rate::new(2, Duration::from_secs(3_600)),
        ..ApiConfig::default()
    })
    .await;
    api.add_key("new", &["org_a"], &[Scope::Read]).await;
    let ask = async |key: &str| {
        let request = TestRequest::get()
            .uri("/webhooks")
            .peer_addr("192.0.2.1:4711".parse().unwrap())
            .insert_header(("authorization", format!("Bearer {key}")));
        api.send(request).await
    };
    for _ in 0..2 {
        ask("wrong").await.is_problem(401);
    }
    ask("wrong").await.is_problem(429);
    assert_eq!(ask("new").await.status, 200);
    ask("another wrong one").await.is_problem(429);
    // Also while the lookups of the address are all in use.
    let flood = futures::future::join_all((0..50).map(|n| {
        let key = if n == 49 {
            KEY.to_owned()
        } else {
            format!("wrong {n}")
        };
        let ask = &ask;
        async move { ask(&key).await.status }
    }));
    assert_eq!(flood.await.last(), Some(&200));
}
