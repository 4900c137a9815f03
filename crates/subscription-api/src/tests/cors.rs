//! Cross-origin requests of browsers, and OPTIONS.

use super::*;

const APP: &str = "https://app.example.com";

fn preflight(path: &str, origin: &str) -> TestRequest {
    TestRequest::default()
        .method(actix_web::http::Method::OPTIONS)
        .uri(path)
        .insert_header(("origin", origin))
        .insert_header(("access-control-request-method", "PATCH"))
        .insert_header(("access-control-request-headers", "authorization,if-match"))
}

#[actix_web::test]
async fn a_preflight_request_of_an_allowed_origin_is_answered_without_a_key() {
    let api = TestApi::new().await;
    for path in ["/v1/webhooks/7", "/webhooks?limit=1", "/no/such/path"] {
        let response = api.send(preflight(path, APP)).await;
        assert_eq!(response.status, 204, "{path}");
        assert_eq!(response.header("access-control-allow-origin"), APP);
        assert!(
            response
                .header("access-control-allow-methods")
                .contains("PATCH")
        );
        let headers = response.header("access-control-allow-headers");
        for name in ["Authorization", "Idempotency-Key", "If-Match", "X-Org-Id"] {
            assert!(headers.contains(name), "{headers}");
        }
        assert_eq!(response.header("vary"), "Origin");
        assert_eq!(response.header("access-control-allow-credentials"), "");
        assert!(!response.header("x-request-id").is_empty());
    }
}

#[actix_web::test]
async fn only_pages_of_allowed_origins_may_read_responses() {
    let api = TestApi::new().await;
    let get = |origin: &str, key: bool| {
        let request = TestRequest::get()
            .uri("/webhooks")
            .insert_header(("origin", origin));
        if key { keyed(request) } else { request }
    };
    for key in [true, false] {
        let response = api.send(get(APP, key)).await;
        assert_eq!(response.status, if key { 200 } else { 401 });
        assert_eq!(response.header("access-control-allow-origin"), APP);
        let exposed = response.header("access-control-expose-headers");
        assert_eq!(exposed, "ETag, Location, Retry-After, X-Request-Id");
    }
    for other in [
        "https://app.example.com.evil.example",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://APP.example.com",
        "null",
        "*",
    ] {
        let response = api.send(get(other, true)).await;
        assert_eq!(response.status, 200);
        assert_eq!(
            response.header("access-control-allow-origin"),
            "",
            "{other}"
        );
        assert_eq!(response.header("vary"), "Origin");
        let response = api.send(preflight("/webhooks", other)).await;
        assert_eq!(
            response.header("access-control-allow-origin"),
            "",
            "{other}"
        );
        assert_eq!(response.header("access-control-allow-methods"), "");
    }
}

#[actix_web::test]
async fn options_shows_the_methods_of_a_path() {
    let api = TestApi::new().await;
    let options = |path: &str| {
        TestRequest::default()
            .method(actix_web::http::Method::OPTIONS)
            .uri(path)
    };
    for (path, allow) in [
        ("/v1/webhooks", "GET, HEAD, POST, OPTIONS"),
        ("/webhooks/1", "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("/events", "GET, HEAD, POST, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ] {
        let response = api.send(options(path)).await;
        assert_eq!((response.status, response.header("allow")), (204, allow));
    }
    api.send(options("/no/such/path")).await.is_problem(404);
}
