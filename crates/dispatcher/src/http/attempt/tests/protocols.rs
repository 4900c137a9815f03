use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;

/// An empty SETTINGS frame (RFC 9113, section 6.5) and a GOAWAY frame (section 6.8).
const SETTINGS: &[u8] = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const GOAWAY: &[u8] = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01";

async fn call(scheme: &str, port: u16) -> (FailureKind, String) {
    failure(attempt(&requester(None), &format!("{scheme}://127.0.0.1:{port}/")).await)
}

/// A TLS server with these application protocols.
async fn tls(alpn: &'static [u8]) -> u16 {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    receiver(move |connection| {
        let acceptor = acceptor.clone();
        async move {
            let _ = acceptor.accept(connection).await;
        }
    })
    .await
}

#[tokio::test]
async fn an_http2_only_receiver_is_named_as_such() {
    let after_the_request = start_receiver(SETTINGS).await;
    let at_once = receiver(|mut connection: TcpStream| async move {
        let _ = connection.write_all(SETTINGS).await;
        read_request(&mut connection).await;
        let _ = connection.write_all(GOAWAY).await;
    })
    .await;
    for port in [after_the_request, at_once, start_receiver(GOAWAY).await] {
        let (kind, message) = call("http", port).await;
        assert_eq!(kind, FailureKind::Response, "{message}");
        assert!(message.contains("speaks only HTTP/2"), "{message}");
    }
    let (kind, message) = call("https", tls(b"h2").await).await;
    assert_eq!(kind, FailureKind::Tls, "{message}");
    assert!(message.contains("does not offer HTTP/1.1"), "{message}");
}

#[tokio::test]
async fn http_on_a_tls_port_and_https_on_an_http_port_are_named_as_such() {
    let (kind, message) = call("http", tls(b"http/1.1").await).await;
    assert_eq!(kind, FailureKind::Response, "{message}");
    assert!(message.contains("must begin with https://"), "{message}");
    let plain = receiver(|mut connection: TcpStream| async move {
        let _ = connection.read(&mut [0; 1024]).await;
        let _ = connection
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await;
    });
    let (kind, message) = call("https", plain.await).await;
    assert_eq!(kind, FailureKind::Tls, "{message}");
    assert!(
        message.contains("does not speak TLS on this port"),
        "{message}"
    );
}

#[tokio::test]
async fn a_connection_that_is_closed_during_the_handshake_is_named_as_such() {
    let closing = receiver(|mut connection: TcpStream| async move {
        let _ = connection.read(&mut [0; 1024]).await;
    });
    let (kind, message) = call("https", closing.await).await;
    assert_eq!(kind, FailureKind::Tls, "{message}");
    assert!(
        message.contains("closed the connection during the handshake"),
        "{message}"
    );
}
