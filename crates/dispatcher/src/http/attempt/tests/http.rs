use super::*;
use crate::http::client::MAX_HEADERS;

async fn outcome_of(answer: impl Into<Bytes>) -> AttemptOutcome {
    let port = start_receiver(answer).await;
    attempt(&requester(None), &format!("http://127.0.0.1:{port}/hooks")).await
}

async fn failure_message(answer: impl Into<Bytes>) -> String {
    let (kind, message) = failure(outcome_of(answer).await);
    assert_eq!(kind, FailureKind::Response, "{message}");
    message
}

#[tokio::test]
async fn folded_headers_and_a_space_before_the_colon_are_a_success() {
    for head in [
        "X-Folded: one\r\n two\r\nContent-Length: 2",
        "X-Spaced : one\r\nContent-Length : 2",
        "X-Both : one\r\n\ttwo\r\nContent-Length: 2",
    ] {
        let outcome = outcome_of(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\nok")).await;
        assert!(outcome.is_success(), "{head}: {outcome:?}");
        assert_eq!(outcome.body(), Some("ok"), "{head}");
    }
}

#[tokio::test]
async fn the_location_of_a_redirect_is_recorded() {
    let head = "HTTP/1.1 308 Permanent Redirect\r\nLocation: /hooks/\r\nContent-Length: 0\r\n\r\n";
    let (kind, message) = outcome_of(head).await.error().unwrap();
    assert_eq!(kind, FailureKind::HttpStatus);
    assert!(message.contains("redirects to /hooks/;"), "{message}");
}

#[tokio::test]
async fn the_message_of_a_closed_connection_tells_how_far_the_response_came() {
    let none = failure_message("").await;
    assert_eq!(none, "the receiver closed the connection without an answer");
    let head = failure_message("HTTP/1.1 200 OK\r\nContent-").await;
    assert!(head.contains("in the middle of the head"), "{head}");
    for body in [
        "Content-Length: 9\r\n\r\nfive.",
        "Transfer-Encoding: chunked\r\n\r\n9\r\nfive.",
    ] {
        let message = failure_message(format!("HTTP/1.1 200 OK\r\n{body}")).await;
        assert!(message.contains("in the middle of the body"), "{message}");
    }
}

#[tokio::test]
async fn too_many_headers_are_named_with_the_bound() {
    let headers = |count| "X-Many: 1\r\n".repeat(count);
    let most = outcome_of(format!(
        "HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n",
        headers(MAX_HEADERS - 1)
    ));
    assert!(most.await.is_success());
    let more = failure_message(format!(
        "HTTP/1.1 200 OK\r\n{}\r\n",
        headers(MAX_HEADERS + 1)
    ))
    .await;
    assert!(more.contains("more than 100 headers or 64 KiB"), "{more}");
    let long = failure_message(format!(
        "HTTP/1.1 200 OK\r\nX-Long: {}\r\n\r\n",
        "x".repeat(256 * 1024)
    ))
    .await;
    assert_eq!(long, more);
}

#[tokio::test]
async fn a_response_that_is_not_http_is_named_as_such() {
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno header\r\n\r\n",
    ] {
        let message = failure_message(answer).await;
        assert!(message.contains("is not valid HTTP/1.1"), "{message}");
    }
    let chunks =
        failure_message("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").await;
    assert!(chunks.contains("chunks cannot be read"), "{chunks}");
}
