//! Access by keys.

use actix_web::body::BoxBody;
use actix_web::dev::ServiceRequest;
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, web};
use hookline_core::rate::Rate;
use hookline_store::key_of_task;

use super::*;
use crate::middleware::auth;

#[actix_web::test]
async fn without_a_good_key_nothing_is_told() {
    let world = World::new().await;
    for key in [
        None,
        Some("Bearer nobody"),
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
            let answer = match key {
                Some(key) => world.send(request.insert_header(("authorization", key))),
                None => world.send(request),
            };
            let answer = answer.await;
            answer.is_problem(401);
            assert!(answer.header("www-authenticate").starts_with("Bearer"));
        }
    }
    // A path that is no route is 404 for every caller.
    let nowhere = world.send(TestRequest::get().uri("/v1/nope")).await;
    nowhere.is_problem(404);
    assert_eq!(nowhere.json(), world.get("/v1/nope").await.json());
}

#[actix_web::test]
async fn a_bad_key_is_told_before_the_body_is_looked_at() {
    let world = World::new().await;
    let request = TestRequest::post().uri("/events").set_payload("nonsense");
    world.send(request).await.is_problem(401);
}

#[actix_web::test]
async fn a_key_enters_its_own_organizations_alone() {
    let world = World::new().await;
    let id = world.subscribe("of a").await;
    let path = format!("/v1/webhooks/{id}");
    let as_org = |name: &str| {
        keyed(TestRequest::get().uri(&path)).insert_header(("X-Org-Id", name.to_owned()))
    };
    assert_eq!(world.send(as_org("org_a")).await.status, 200);
    world.send(as_org("org_b")).await.is_problem(404);
    for name in ["org_c", "org_that_is_not", ""] {
        world.send(as_org(name)).await.is_problem(403);
    }
    let twice = as_org("org_a").append_header(("X-Org-Id", "org_b"));
    world.send(twice).await.is_problem(403);
}

#[actix_web::test]
async fn every_call_needs_its_scope() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    for scope in Scope::ALL {
        world.add_key(scope.as_str(), &["org_a"], &[scope]).await;
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
            let answer = world.send(request).await;
            answer.is_problem(403);
            assert!(answer.text.contains(needed.as_str()), "{answer:?}");
        }
    }
    let reader = TestRequest::get()
        .uri("/webhooks")
        .insert_header(("authorization", "bearer read"));
    assert_eq!(world.send(reader).await.status, 200);
}

#[actix_web::test]
async fn what_belongs_to_others_is_not_found() {
    let world = World::new().await;
    let id = world.subscribe("n").await;
    world.add_key("of c", &["org_c"], &Scope::ALL).await;
    world.add_key("key-of-c", &["org_c"], &Scope::ALL).await;
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
        world.send(as_c(request)).await.is_problem(404);
    }
    assert_eq!(world.get(&one).await.status, 200);
}

#[actix_web::test]
async fn a_key_that_asks_too_much_at_once_is_told_to_wait() {
    let world = World::with(ApiSettings {
        max_requests_per_key: 1,
        ..impatient()
    })
    .await;
    world.is(Mood::Hanging);
    let hanging = world.post("/events", event("e"));
    let other = async {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        world.get("/webhooks").await
    };
    let (hanging, other) = tokio::join!(hanging, other);
    other.is_problem(429);
    hanging.is_problem(503);
    assert_eq!(world.get("/webhooks").await.status, 200);
}

#[actix_web::test]
async fn a_handler_works_in_the_share_of_its_key() {
    let world = World::new().await;
    world.add_key("other", &["org_c"], &Scope::ALL).await;
    let service = world.server.state.clone();
    let tell = || async { format!("{:?}", key_of_task().map(|key| key.0)) };
    let enter = move |request: ServiceRequest, next: Next<BoxBody>| {
        auth::enter(service.clone(), Scope::Write, request, next)
    };
    let resource = web::resource("/key").route(web::get().to(tell));
    let app = init_service(App::new().service(resource.wrap(from_fn(enter)))).await;
    let mut told = Vec::new();
    for key in [KEY, "other"] {
        let request = TestRequest::get()
            .uri("/key")
            .insert_header(("authorization", format!("Bearer {key}")));
        told.push(read_body(call_service(&app, request.to_request()).await).await);
    }
    assert_eq!(told, ["Some(1)", "Some(2)"]);
    assert_eq!(key_of_task(), None);
}

#[actix_web::test]
async fn a_good_key_is_answered_whatever_wrong_ones_its_address_has_sent() {
    let world = World::with(ApiSettings {
        failed_tries: Rate::new(2, Duration::from_secs(3_600)),
        ..ApiSettings::default()
    })
    .await;
    world.add_key("new", &["org_a"], &[Scope::Read]).await;
    let ask = async |key: &str| {
        let request = TestRequest::get()
            .uri("/webhooks")
            .peer_addr("192.0.2.1:4711".parse().unwrap())
            .insert_header(("authorization", format!("Bearer {key}")));
        world.send(request).await
    };
    for _ in 0..2 {
        ask("wrong").await.is_problem(401);
    }
    ask("wrong").await.is_problem(429);
    assert_eq!(ask("new").await.status, 200);
    ask("another wrong one").await.is_problem(429);
    // And while as many wrong ones as may be are looked up.
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
