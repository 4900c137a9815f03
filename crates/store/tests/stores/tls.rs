//! TLS to PostgreSQL, with a certificate of the test's that the server is told to use.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hookline_store::{PlanCacheMode, PostgresSettings, Store, StoreError};
use hookline_testkit::test_ca::TestCa;
use tempfile::TempDir;
use uuid::Uuid;

use crate::fixture::now;

fn variable(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run the tests with `make test`"))
}

/// The server that `make test` starts, and a database of the test's own there.
struct Server {
    url: String,
    database: String,
    folder: TempDir,
}

impl Server {
    fn new() -> Self {
        let url = variable("HOOKLINE_TEST_POSTGRES");
        let database = format!("s{}", Uuid::new_v4().simple());
        let server = Self {
            url,
            database,
            folder: tempfile::tempdir().unwrap(),
        };
        server.sql(&format!(
            "CREATE DATABASE {} OWNER hookline",
            server.database
        ));
        server
    }

    /// As the server's own administrator.
    fn sql(&self, sql: &str) -> String {
        let ran = Command::new("psql")
            .args([&variable("HOOKLINE_TEST_POSTGRES_ADMIN"), "-XAtqc", sql])
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
        String::from_utf8_lossy(&ran.stdout).trim().to_owned()
    }

    /// Makes it `localhost`, for which an authority of ours vouches. The server itself writes its
    /// files: it takes a key that it owns and that no other user can read.
    async fn speak_tls(&self) {
        let authority = TestCa::new().unwrap();
        let issued = authority.issue("localhost").unwrap();
        let another = TestCa::new().unwrap();
        std::fs::write(self.file("ca.pem"), authority.pem()).unwrap();
        std::fs::write(self.file("another.pem"), another.pem()).unwrap();

        let folder = self.sql("SHOW data_directory");
        for (name, pem) in [("tls.crt", issued.certificate), ("tls.key", issued.key)] {
            self.sql(&format!(
                "COPY (SELECT unnest(string_to_array('{}', E'\\n'))) TO PROGRAM 'umask 077; cat > {folder}/{name}'",
                pem.trim_end()
            ));
        }
        for (setting, value) in [
            ("ssl_cert_file", "tls.crt"),
            ("ssl_key_file", "tls.key"),
            ("ssl", "on"),
        ] {
            self.sql(&format!("ALTER SYSTEM SET {setting} = '{value}'"));
        }
        self.sql("SELECT pg_reload_conf()");
        let begun = tokio::time::Instant::now();
        while self.sql("SHOW ssl") != "on" {
            assert!(begun.elapsed() < Duration::from_secs(30), "no TLS");
            tokio::task::yield_now().await;
        }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn store(&self, host: &str, roots: &Path) -> Store {
        let (base, _) = self.url.rsplit_once('/').unwrap();
        let base = base.replace("127.0.0.1", host);
        Store::postgres(&PostgresSettings {
            url: format!(
                "{base}/{}?sslmode=verify-full&sslrootcert={}",
                self.database,
                roots.display()
            ),
            connections: 2,
            wait: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            application_name: "hookline test".to_owned(),
            plans: PlanCacheMode::Auto,
        })
        .unwrap()
    }

    async fn refusal(&self, host: &str, roots: &str) -> String {
        match self.store(host, &self.file(roots)).organizations().await {
            Err(StoreError::Unavailable(why)) => why,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_reached_through_tls_when_a_known_authority_vouches_for_its_name() {
    let server = Server::new();
    server.speak_tls().await;
    let store = server.store("localhost", &server.file("ca.pem"));
    store.migrate(now()).await.unwrap();
    assert_eq!(store.organizations().await.unwrap(), []);
    let through = format!(
        "SELECT bool_and(ssl)::text || count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE datname = '{}'",
        server.database
    );
    assert!(
        server.sql(&through).starts_with("true"),
        "{}",
        server.sql(&through)
    );

    // After a cut it recovers, also while callers continue.
    server.sql(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'",
        server.database
    ));
    let begun = tokio::time::Instant::now();
    while let Err(why) = store.organizations().await {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "it stays away: {why}"
        );
    }

    for (host, roots) in [("localhost", "another.pem"), ("127.0.0.1", "ca.pem")] {
        let why = server.refusal(host, roots).await;
        assert!(why.contains("certificate"), "{host} {roots}: {why}");
    }
}
