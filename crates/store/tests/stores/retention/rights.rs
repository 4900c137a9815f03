//! Partitions with the rights of a service, which may write rows and no more.

use std::process::Command;

use hookline_store::Store;
use uuid::Uuid;

use super::{delivered, long_ago};
use crate::fixture::{DAY, Fixture, NOW, at, settings};

/// A role that may do this with the tables of the fixture's database, and the store as it sees it.
struct Role {
    name: String,
    store: Store,
    admin: String,
}

impl Role {
    fn that_may(fixture: &Fixture, rights: &str) -> Self {
        let server = std::env::var("HOOKLINE_TEST_POSTGRES_ADMIN")
            .expect("HOOKLINE_TEST_POSTGRES_ADMIN is not set: run the tests with `make test`");
        let database = fixture.url().rsplit_once('/').unwrap().1;
        let admin = format!("{}/{database}", server.rsplit_once('/').unwrap().0);
        let name = format!("r{}", Uuid::new_v4().simple());
        sql(
            &admin,
            &format!(
                "CREATE ROLE {name} LOGIN PASSWORD 'p';
                 GRANT {rights} ON ALL TABLES IN SCHEMA public TO {name}"
            ),
        );
        let place = admin.split_once('@').unwrap().1;
        let url = format!("postgres://{name}:p@{place}");
        let store = Store::postgres(&settings(&url)).unwrap();
        Self { name, store, admin }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let name = &self.name;
        sql(
            &self.admin,
            &format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{name}';
                 DROP OWNED BY {name}; DROP ROLE {name}"
            ),
        );
    }
}

fn sql(url: &str, sql: &str) {
    let done = Command::new("psql").args([url, "-Xqc", sql]).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[tokio::test]
async fn a_role_that_may_only_write_rows_makes_partitions_and_drops_old_ones() {
    let fixture = Fixture::postgres().await;
    let role = Role::that_may(&fixture, "SELECT, INSERT, UPDATE, DELETE");
    role.store.prepare_days(long_ago()).await.unwrap();
    delivered(&fixture, 0..10).await;
    let unpartitioned = role.store.unpartitioned_attempts(100).await.unwrap();
    assert_eq!(unpartitioned, 0, "the partition was made");
    let day = at(NOW - 30 * DAY).unix_day();
    // Four partitions: of the day and of those after it.
    for _ in 0..4 {
        assert_eq!(role.store.forget_attempts(day).await.unwrap(), 1);
    }
    while role.store.forget_attempts(day).await.unwrap() > 0 {}
}

#[tokio::test]
async fn a_partition_is_dropped_only_for_a_role_that_may_delete_and_only_when_its_day_is_over() {
    let fixture = Fixture::postgres().await;
    let reader = Role::that_may(&fixture, "SELECT");
    assert!(reader.store.prepare_days(long_ago()).await.is_err());
    assert!(reader.store.forget_attempts(0).await.is_err());
    let far_ahead = at(NOW + 4_000 * DAY);
    assert!(fixture.store.prepare_days(far_ahead).await.is_ok());
    let refused = fixture.store.forget_attempts(far_ahead.unix_day() + 1);
    assert!(refused.await.is_err(), "days to come were dropped");
}

#[tokio::test]
async fn an_attempt_without_a_partition_is_counted() {
    let fixture = Fixture::postgres().await;
    delivered(&fixture, 0..3).await;
    for (most, counted) in [(100, 3), (2, 2)] {
        let attempts = fixture.store.unpartitioned_attempts(most).await.unwrap();
        assert_eq!(attempts, counted);
    }
}
