//! Test: the constraints that `StoreError` knows are those of the migrated schema.

use std::collections::BTreeSet;
use std::process::Command;

use diesel::Connection as _;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use uuid::Uuid;

use super::{Conn, migrations};
use crate::error::CONSTRAINTS;
use crate::schema::TABLES;

/// Tables that no query of the store violates: the probe's and the migration library's.
const OTHERS: [&str; 2] = ["__diesel_schema_migrations", "write_probe"];

/// Every constraint and unique index. The ones of the daily partitions are left out: a violation of them is transient.
const OF_THE_SCHEMA: &str = "
SELECT rel.relname::text AS of_table, con.conname::text AS name
  FROM pg_constraint con JOIN pg_class rel ON rel.oid = con.conrelid
 WHERE con.connamespace = 'public'::regnamespace AND con.contype IN ('p', 'u', 'f', 'c', 'x')
   AND NOT rel.relispartition
UNION
SELECT rel.relname::text, idx.relname::text
  FROM pg_index i JOIN pg_class idx ON idx.oid = i.indexrelid JOIN pg_class rel ON rel.oid = i.indrelid
 WHERE rel.relnamespace = 'public'::regnamespace AND i.indisunique AND NOT rel.relispartition";

#[derive(QueryableByName)]
struct Constraint {
    #[diesel(sql_type = Text)]
    of_table: String,
    #[diesel(sql_type = Text)]
    name: String,
}

/// A database of its own on the server of the tests, migrated.
pub(crate) fn migrated() -> Conn {
    let mut conn = created();
    migrations::run(&mut conn).unwrap();
    conn
}

/// A database of its own on the server of the tests, without a schema.
pub(crate) fn created() -> Conn {
    let name = format!("s{}", Uuid::new_v4().simple());
    let made = Command::new("psql")
        .args([&server(), "-Xqc", &format!("CREATE DATABASE {name}")])
        .status();
    assert!(made.unwrap().success());
    connect(&name)
}

/// A further connection to the database of `conn`.
pub(crate) fn beside(conn: &mut Conn) -> Conn {
    let name: String = diesel::select(sql::<Text>("current_database()::text"))
        .get_result(conn)
        .unwrap();
    connect(&name)
}

fn connect(database: &str) -> Conn {
    let server = server();
    let (base, _) = server.rsplit_once('/').unwrap();
    Conn::establish(&format!("{base}/{database}")).unwrap()
}

fn server() -> String {
    std::env::var("HOOKLINE_TEST_POSTGRES")
        .expect("HOOKLINE_TEST_POSTGRES is not set: run the tests with `make test`")
}

#[test]
fn the_known_constraints_are_those_of_the_migrated_schema() {
    let found: Vec<Constraint> = diesel::sql_query(OF_THE_SCHEMA)
        .load(&mut migrated())
        .unwrap();
    let tables: BTreeSet<&str> = found.iter().map(|one| one.of_table.as_str()).collect();
    let known: BTreeSet<&str> = TABLES.into_iter().chain(OTHERS).collect();
    assert_eq!(tables, known, "tables that can refuse a row");

    let ours = found
        .iter()
        .filter(|one| TABLES.contains(&one.of_table.as_str()));
    let ours: BTreeSet<&str> = ours.map(|one| one.name.as_str()).collect();
    let keys: Vec<String> = TABLES.iter().map(|table| format!("{table}_pkey")).collect();
    let known = keys.iter().map(String::as_str).chain(CONSTRAINTS);
    assert_eq!(ours, known.collect());
}
