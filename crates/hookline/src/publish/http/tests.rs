//! Tests against a stub of the API.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpResponseBuilder, HttpServer};
use hookline_core::event::{Event, MissingId};

use super::*;

/// A request, by organization, key and body.
type SeenRequest = (String, String, String);

#[derive(Clone)]
struct StubApi {
    answer: fn(usize) -> HttpResponse,
    seen: Arc<Mutex<Vec<SeenRequest>>>,
}

impl StubApi {
    /// An API with an answer that depends on the number of earlier requests.
    async fn serve(answer: fn(usize) -> HttpResponse) -> (Self, EventsClient) {
        hookline_runtime::tls::use_ring();
        let stub = Self {
            answer,
            seen: Arc::default(),
        };
        let data = stub.clone();
        let server = HttpServer::new(move || {
            App::new()
                .app_data(Data::new(data.clone()))
                .route("/v1/events", web::post().to(take))
        })
        .workers(1)
        .disable_signals()
        .bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap();
        let url = format!("http://{}/", server.addrs()[0]);
        tokio::spawn(server.run());
        (stub, EventsClient::new(&url, "key").unwrap())
    }

    fn seen(&self) -> Vec<SeenRequest> {
        self.seen.lock().unwrap().clone()
    }
}

async fn take(stub: Data<StubApi>, request: HttpRequest, body: Bytes) -> HttpResponse {
    let header = |name: &str| {
        let value = request.headers().get(name).unwrap();
        value.to_str().unwrap().to_owned()
    };
    let body = String::from_utf8(body.to_vec()).unwrap();
    let mut seen = stub.seen.lock().unwrap();
    seen.push((header("x-org-id"), header("authorization"), body));
    (stub.answer)(seen.len() - 1)
}

fn answer(status: u16) -> HttpResponseBuilder {
    HttpResponse::build(status.try_into().unwrap())
}

fn event(id: &str, organization: &str) -> Event {
    let json = format!(
        r#"{{"event_id":"{id}","event_type":"workflow.failed","workflow_id":"w","organization_id":"{organization}","timestamp":"2025-12-21T10:30:00Z","data":{{}}}}"#
    );
    Event::from_json(json.as_bytes(), MissingId::Refused).unwrap()
}

fn numbered(events: &[Event]) -> Vec<NumberedEvent<'_>> {
    let lines = (1..).map(|index| 10 * index);
    let numbered = lines.zip(events);
    numbered
        .map(|(line, event)| NumberedEvent { line, event })
        .collect()
}

async fn publish(api: &EventsClient, events: &[Event]) -> Result<(), String> {
    let progress = Progress::begin(None);
    for request in PublishRequest::split(&numbered(events)) {
        let published = api.publish(&request, &progress).await;
        published.map_err(|why| format!("{why:#}").replace(api.events.as_str(), "API"))?;
    }
    Ok(())
}

#[tokio::test]
async fn an_id_that_comes_again_begins_another_request() {
    let (stub, api) = StubApi::serve(|_| answer(202).body("{}")).await;
    let events = [
        event("1", "a"),
        event("2", "a"),
        event("1", "a"),
        event("3", "a"),
    ];
    publish(&api, &events).await.unwrap();
    let body = |index: usize| std::str::from_utf8(&events[index].body).unwrap();
    let bodies: Vec<String> = stub.seen().into_iter().map(|(_, _, body)| body).collect();
    assert_eq!(
        bodies,
        [
            format!("[{},{}]", body(0), body(1)),
            format!("[{},{}]", body(2), body(3)),
        ]
    );
}

#[tokio::test]
async fn each_organization_has_its_own_request_with_the_bytes_of_its_events() {
    let (stub, api) = StubApi::serve(|_| answer(202).body("{}")).await;
    let events = [event("1", "b"), event("2", "a"), event("3", "b")];
    publish(&api, &events).await.unwrap();
    let body = |index: usize| std::str::from_utf8(&events[index].body).unwrap();
    let seen = |organization: &str, body: String| {
        let key = "Bearer key".to_owned();
        (organization.to_owned(), key, body)
    };
    assert_eq!(
        stub.seen(),
        [
            seen("a", format!("[{}]", body(1))),
            seen("b", format!("[{},{}]", body(0), body(2))),
        ]
    );
}

#[tokio::test]
async fn a_request_is_repeated_after_the_time_that_the_api_names() {
    let (stub, api) = StubApi::serve(|before| match before {
        0 => answer(429).insert_header(("retry-after", "1")).finish(),
        1 => answer(503).finish(),
        _ => answer(202).body("{}"),
    })
    .await;
    let began = Instant::now();
    publish(&api, &[event("1", "a")]).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    let seen = stub.seen();
    assert_eq!(seen.len(), 3);
    assert!(seen.iter().all(|one| *one == seen[0]));
}

#[tokio::test]
async fn a_refusal_is_final_and_names_the_lines_of_the_input() {
    let (stub, api) = StubApi::serve(|_| {
        answer(422).body(r#"{"detail":"2 fields are not valid","errors":[{"field":"[1].data","message":"is odd"},{"field":"","message":"is too much"}]}"#)
    })
    .await;
    let refused = publish(&api, &[event("1", "a"), event("2", "a")]).await;
    assert_eq!(
        refused.unwrap_err(),
        "could not publish the 2 events of a on lines 10 to 20 to API: the API answered \
         422 Unprocessable Entity: 2 fields are not valid; line 20: data: is odd; is too much"
    );
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn an_answer_that_is_no_problem_is_shown_by_its_status() {
    let (_told, api) = StubApi::serve(|_| answer(404).body("<html>")).await;
    let refused = publish(&api, &[event("1", "a")]).await;
    assert_eq!(
        refused.unwrap_err(),
        "could not publish the event of a on line 10 to API: the API answered 404 Not Found"
    );
}

#[test]
fn only_an_http_url_and_a_printable_key_are_accepted() {
    hookline_runtime::tls::use_ring();
    for (url, key) in [
        ("", "k"),
        ("ftp://h", "k"),
        ("h:1", "k"),
        ("http://h", "k\n"),
        ("http://u:hunter2@h", "k"),
    ] {
        let refused = EventsClient::new(url, key).unwrap_err().to_string();
        assert!(refused.starts_with("--"), "{refused}");
        assert!(!refused.contains("hunter2"), "{refused}");
    }
}
