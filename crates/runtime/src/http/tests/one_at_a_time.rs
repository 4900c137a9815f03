//! Requests that arrive together, or in pieces.

use super::*;

const ORDER: [(&str, &str); 8] = [
    (
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc",
    ),
    (
        "HEAD /echo HTTP/1.1\r\nhost: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ),
    (
        "\r\n\r\nPOST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         2;x=y\r\nde\r\n1\r\nf\r\n0\r\nx-a: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\ndef",
    ),
    (
        "HEAD /small HTTP/1.1\r\nhost: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
    ),
    (
        "POST /refuse HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n4\r\nHEAD\r\n0\r\n\r\n",
        "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 7\r\n\r\nrefused",
    ),
    (
        "GET /pieces HTTP/1.1\r\nhost: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\npiece\r\n5\r\npiece\r\n0\r\n\r\n",
    ),
    (
        "HEAD /pieces HTTP/1.1\r\nhost: a\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    ),
    (
        "GET /small HTTP/1.0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nsmall",
    ),
];

/// All bytes until the end of the connection, without headers that do not matter here.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answers = String::new();
    let read = timeout(PATIENCE, stream.read_to_string(&mut answers)).await;
    read.expect("the end of the connection").unwrap();
    let matters = |line: &&str| {
        !["date: ", "content-type: "]
            .iter()
            .any(|x| line.starts_with(x))
    };
    answers.split_inclusive('\n').filter(matters).collect()
}

#[tokio::test]
async fn each_answer_has_the_form_of_its_own_request_in_whatever_pieces_they_come() {
    let server = TestHttpServer::with(10, NEVER);
    let all: String = ORDER.iter().map(|(request, _)| *request).collect();
    let expected: String = ORDER.iter().map(|(_, answer)| *answer).collect();
    for piece in [1, 10, 60, all.len()] {
        let stream = server.connect().await;
        stream.set_nodelay(true).unwrap();
        let (from, mut to) = stream.into_split();
        for piece in all.as_bytes().chunks(piece) {
            to.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut stream = from.reunite(to).unwrap();
        assert_eq!(rest(&mut stream).await, expected, "in pieces of {piece}");
    }
}

#[tokio::test]
async fn requests_are_answered_after_the_client_has_ended_its_side() {
    let server = TestHttpServer::with(10, NEVER);
    let mut stream = server.connect().await;
    let all: String = ORDER[..5].iter().map(|(request, _)| *request).collect();
    let expected: String = ORDER[..5].iter().map(|(_, answer)| *answer).collect();
    stream.write_all(all.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, expected);
}

#[tokio::test]
async fn a_small_body_that_nothing_reads_does_not_end_its_connection() {
    let server = TestHttpServer::with(10, NEVER);
    let mut stream = server.connect().await;
    for _ in 0..3 {
        let request = "POST /later HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
        let answer = ask(&mut stream, request, "later").await;
        assert!(!answer.contains("connection: "), "{answer}");
    }
}

#[tokio::test]
async fn a_next_head_in_the_packet_of_a_request_has_the_time_of_a_head() {
    let server = TestHttpServer::with(
        10,
        Timeouts {
            head: IN_A_WHILE,
            ..NEVER
        },
    );
    for first in [get("/small"), ORDER[0].0.to_owned()] {
        let mut stream = server.connect().await;
        let part = first + "GET /small HTTP/1.1\r\nhost";
        stream.write_all(part.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn a_request_with_a_large_head_is_the_last_of_its_connection() {
    let server = TestHttpServer::with(10, NEVER);
    let request = |bytes| {
        let more = "x".repeat(bytes);
        format!("GET /small HTTP/1.1\r\nhost: a\r\nx: {more}\r\n\r\n")
    };
    let mut stream = server.connect().await;
    for _ in 0..10 {
        let answer = ask(&mut stream, &request(7_000), "small").await;
        assert!(!answer.contains("connection: "), "{answer}");
    }
    let answer = ask(&mut stream, &request(100_000), "small").await;
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    is_closed(&mut stream).await;
}

#[tokio::test]
async fn a_client_gets_100_continue_only_where_the_body_is_read() {
    let server = TestHttpServer::with(10, NEVER);
    let post = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n"
        )
    };
    for _ in 0..2 {
        let mut stream = server.connect().await;
        for _ in 0..2 {
            let response = ask(&mut stream, &post("/echo"), "\r\n\r\n").await;
            assert_eq!(response, "HTTP/1.1 100 Continue\r\n\r\n");
            let answer = ask(&mut stream, "abc", "abc").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        let response = ask(&mut stream, &post("/slow"), "\r\n\r\n").await;
        assert_eq!(response, "HTTP/1.1 100 Continue\r\n\r\n");
        let answer = ask(&mut stream, "abc", "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let answer = ask(&mut stream, &post("/refuse"), "refused").await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        is_closed(&mut stream).await;
    }
}

#[tokio::test]
async fn a_request_to_upgrade_is_answered_with_its_body_read() {
    let server = TestHttpServer::with(10, NEVER);
    for upgrade in [
        "upgrade: websocket",
        "connection: upgrade\r\nupgrade: websocket",
    ] {
        for (body, expected) in [
            ("content-length: 3\r\n\r\nabc", "abc"),
            (
                "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
                "abc",
            ),
            ("\r\n", ""),
        ] {
            let mut stream = server.connect().await;
            let request = format!("POST /echo HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n{body}");
            let answer = ask(&mut stream, &request, &format!("\r\n\r\n{expected}")).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        }
        let mut stream = server.connect().await;
        let request = format!("GET /pieces HTTP/1.1\r\nhost: a\r\n{upgrade}\r\n\r\n");
        let answer = ask(&mut stream, &request, "\r\n\r\npiecepiece").await;
        assert!(!answer.contains("transfer-encoding"), "{answer}");
    }
}

#[tokio::test]
async fn a_trailer_without_a_colon_is_400() {
    let server = TestHttpServer::with(10, NEVER);
    let mut stream = server.connect().await;
    let request = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
                   1\r\nx\r\n0\r\nno colon\r\n\r\n";
    let answer = ask(&mut stream, request, "}").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    is_closed(&mut stream).await;
}

#[tokio::test]
async fn a_body_is_read_no_faster_than_the_handler_takes_it() {
    let server = TestHttpServer::with(10, NEVER);
    let mut stream = server.connect().await;
    let length = 4 * LARGE;
    let head = format!("POST /never HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'x'; LARGE / 16];
    let sent = async {
        for _ in 0..length / piece.len() {
            stream.write_all(&piece).await.unwrap();
        }
    };
    assert!(
        timeout(SHORT_TIMEOUT * 3, sent).await.is_err(),
        "it is read"
    );
}
