//! `amqps`, to a TLS listener that the broker opens for the test, with a certificate of the test.

use std::net::TcpListener;
use std::path::Path;

use hookline_queue_rabbitmq::{Rabbit, RabbitError, RabbitSettings};
use hookline_testkit::test_ca::TestCa;
use url::Url;

use crate::broker::{
    CONFIRM_TIMEOUT, Vhost, evaluate, eventually, number_of, numbered, receive_one, within_patience,
};

/// A broker behind TLS, and its CA.
struct Listener {
    port: u16,
    folder: tempfile::TempDir,
}

impl Listener {
    /// The certificate is for `localhost` only.
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = TestCa::new().unwrap();
        let issued = authority.issue("localhost").unwrap();
        let file = |name: &str, pem: String| std::fs::write(folder.path().join(name), pem).unwrap();
        file("ca.pem", authority.pem());
        file("certificate.pem", issued.certificate);
        file("key.pem", issued.key);
        file("another.pem", TestCa::new().unwrap().pem());

        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let path = |name: &str| folder.path().join(name).display().to_string();
        evaluate(&format!(
            "ok = rabbit_networking:start_ssl_listener({{\"127.0.0.1\", {port}, inet}}, \
             [{{certfile, \"{}\"}}, {{keyfile, \"{}\"}}], 1).",
            path("certificate.pem"),
            path("key.pem"),
        ))
        .expect("a listener");
        Self { port, folder }
    }

    async fn connect(&self, vhost: &Vhost, host: &str, roots: &str) -> Result<Rabbit, RabbitError> {
        let mut url = Url::parse(&vhost.url().as_str().replacen("amqp", "amqps", 1)).unwrap();
        url.set_host(Some(host)).unwrap();
        url.set_port(Some(self.port)).unwrap();
        let roots: &Path = &self.folder.path().join(roots);
        url.query_pairs_mut()
            .append_pair("cacertfile", &roots.display().to_string());
        let connecting = Rabbit::connect(RabbitSettings {
            url: url.into(),
            name: "test".into(),
            confirm_timeout: CONFIRM_TIMEOUT,
        });
        within_patience(connecting).await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let port = self.port;
        evaluate(&format!(
            "rabbit_networking:stop_tcp_listener({{\"127.0.0.1\", {port}, inet}})."
        ))
        .expect("no listener");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_reached_through_tls_with_a_certificate_of_a_known_ca_for_its_name() {
    let vhost = Vhost::create();
    let listener = Listener::open();
    let rabbit = listener
        .connect(&vhost, "localhost", "ca.pem")
        .await
        .unwrap();
    let publisher = rabbit.publisher();
    publisher.publish_events(numbered(7)).await.unwrap();
    let consumer = rabbit.events(1);
    let received = receive_one(&consumer).await;
    assert_eq!(number_of(&received), 7);
    consumer.ack(vec![received]).await;

    // A lost connection is replaced through TLS, too.
    vhost.close_all_connections();
    eventually(async || publisher.publish_events(numbered(8)).await.is_ok()).await;
    assert_eq!(number_of(&receive_one(&consumer).await), 8);
    rabbit.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_a_certificate_of_a_known_ca_is_sent_nothing() {
    let vhost = Vhost::create();
    let listener = Listener::open();
    for (host, roots) in [("localhost", "another.pem"), ("127.0.0.1", "ca.pem")] {
        let refused = listener.connect(&vhost, host, roots).await.unwrap_err();
        assert!(
            matches!(refused, RabbitError::Unreachable(_)),
            "{refused:?}"
        );
    }
    let unreadable = listener.connect(&vhost, "localhost", "nobody.pem").await;
    assert!(matches!(unreadable.unwrap_err(), RabbitError::Roots(_)));
}
