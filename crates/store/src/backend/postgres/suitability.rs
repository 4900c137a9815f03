//! Whether this version can work with the database. A service checks at its start, because only an operator can correct
//! such an error.

use diesel::connection::SimpleConnection as _;
use diesel::migration::MigrationSource;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::r2d2::ManageConnection as _;
use diesel::sql_types::{Array, Nullable, Text};
use uuid::Uuid;

use super::connections::Manager;
use super::{Conn, MIGRATIONS};
use crate::error::StoreError;
use crate::schema::TABLES;
use crate::schema_versions::refuse_unknown;

/// The table of `write_probe`, which exists in PostgreSQL alone.
const PROBE: &str = "write_probe";

/// Comparisons of two sessions. Other traffic through a pooler can hide a difference once.
const COMPARISONS: usize = 3;

#[derive(QueryableByName)]
struct SettingRow {
    #[diesel(sql_type = Nullable<Text>)]
    answer: Option<String>,
}

fn ask(conn: &mut Conn, sql: &str) -> Result<Option<String>, StoreError> {
    let SettingRow { answer } = diesel::sql_query(sql).get_result(conn)?;
    Ok(answer)
}

/// Encoding, schema and rights, in this order: each check needs the one before.
pub(super) fn check(conn: &mut Conn) -> Result<(), StoreError> {
    check_encoding(conn)?;
    check_schema(conn)?;
    check_rights(conn)
}

/// Names and bodies may have any Unicode character.
pub(super) fn check_encoding(conn: &mut Conn) -> Result<(), StoreError> {
    let encoding = ask(conn, "SELECT current_setting('server_encoding') AS answer")?;
    match encoding.as_deref() {
        Some("UTF8") => Ok(()),
        other => Err(StoreError::Unsuitable(format!(
            "the database's encoding is {}: create it with ENCODING 'UTF8' (and TEMPLATE template0)",
            other.unwrap_or("not known")
        ))),
    }
}

#[derive(QueryableByName)]
struct AppliedMigration {
    #[diesel(sql_type = Text)]
    version: String,
}

/// Reads the table of migrations itself: the migration library would create the table, which needs more rights than a
/// service has.
fn check_schema(conn: &mut Conn) -> Result<(), StoreError> {
    let readable = ask(
        conn,
        "SELECT has_table_privilege(to_regclass('__diesel_schema_migrations')::oid, 'SELECT')::text AS answer",
    )?;
    match readable.as_deref() {
        None => return Err(StoreError::NotMigrated),
        Some("true") => {}
        Some(_) => return Err(missing_rights("SELECT on __diesel_schema_migrations")),
    }
    let (applied, known) = (applied_versions(conn)?, known_versions()?);
    refuse_unknown("database", &applied, &known)?;
    match known.iter().all(|known| applied.contains(known)) {
        true => Ok(()),
        false => Err(StoreError::NotMigrated),
    }
}

/// Refuses a database with a migration that this version does not know.
pub(super) fn check_versions(conn: &mut Conn) -> Result<(), StoreError> {
    let table = "SELECT to_regclass('__diesel_schema_migrations')::text AS answer";
    match ask(conn, table)? {
        None => Ok(()),
        Some(_) => refuse_unknown("database", &applied_versions(conn)?, &known_versions()?),
    }
}

fn applied_versions(conn: &mut Conn) -> Result<Vec<String>, StoreError> {
    let applied: Vec<AppliedMigration> =
        diesel::sql_query("SELECT version::text FROM __diesel_schema_migrations").load(conn)?;
    Ok(applied.into_iter().map(|applied| applied.version).collect())
}

fn known_versions() -> Result<Vec<String>, StoreError> {
    let migrations = MigrationSource::<Pg>::migrations(&MIGRATIONS);
    let migrations = migrations.map_err(|why| StoreError::Refused(why.to_string()))?;
    let versions = migrations
        .iter()
        .map(|one| one.name().version().to_string());
    Ok(versions.collect())
}

fn check_rights(conn: &mut Conn) -> Result<(), StoreError> {
    let tables: Vec<&str> = TABLES.into_iter().chain([PROBE]).collect();
    let SettingRow { answer } = diesel::sql_query(
        "SELECT string_agg(wanted || ' on ' || name, ', ' ORDER BY name, wanted) AS answer
           FROM unnest($1) AS name, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted
          WHERE has_table_privilege(to_regclass(name)::oid, wanted) IS NOT TRUE",
    )
    .bind::<Array<Text>, _>(tables)
    .get_result(conn)?;
    match answer {
        None => Ok(()),
        Some(missing) => Err(missing_rights(&missing)),
    }
}

fn missing_rights(missing: &str) -> StoreError {
    StoreError::Unsuitable(format!(
        "the database's role lacks rights: as the owner of the tables, GRANT {missing}"
    ))
}

/// Whether a session belongs to one client, which prepared statements need. A pooler in transaction mode gives a client
/// another session for each transaction: then a client sees a setting of another, or misses its own.
pub(super) fn check_pooling(manager: &Manager) -> Result<(), StoreError> {
    let mut one = manager.connect().map_err(StoreError::unavailable)?.conn;
    let mut other = manager.connect().map_err(StoreError::unavailable)?.conn;
    for _ in 0..COMPARISONS {
        let mark = Uuid::new_v4().simple().to_string();
        // The simple protocol and a transaction: each stays in one session behind any pooler.
        one.batch_execute(&format!("SET hookline.session = '{mark}'"))?;
        let shared = other.transaction(marked)?;
        let own = one.transaction(marked)?;
        if shared.as_deref() == Some(&mark) || own.as_deref() != Some(&mark) {
            return Err(StoreError::Unsuitable(
                "a connection pooler in transaction mode loses prepared statements and session settings: \
                 set its pool_mode to session, or let store.url lead to the database itself"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

fn marked(conn: &mut Conn) -> Result<Option<String>, StoreError> {
    ask(
        conn,
        "SELECT current_setting('hookline.session', true) AS answer",
    )
}

#[cfg(test)]
mod tests {

    use super::super::constraints::migrated;
    use super::super::migrations;
    use super::*;

    fn refusals_of(applied: &str) -> [String; 2] {
        let mut conn = migrated();
        conn.batch_execute(&format!(
            "INSERT INTO __diesel_schema_migrations (version) VALUES ('{applied}')"
        ))
        .unwrap();
        [check(&mut conn), migrations::run(&mut conn)].map(|done| done.unwrap_err().to_string())
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused() {
        let newer = "the database's schema is newer than this program (migration 99990101000000)";
        for why in refusals_of("99990101000000") {
            assert!(why.starts_with(newer), "{why}");
        }
    }

    #[test]
    fn a_database_of_an_unreleased_version_is_refused() {
        for unreleased in ["20261123000000", "20261130000170"] {
            let line = format!(
                "an unreleased version of Hookline made the database's schema (migration {unreleased}), and no version \
                 migrates it: start with a new database"
            );
            assert_eq!(refusals_of(unreleased), [line.clone(), line]);
        }
    }

    #[test]
    fn a_database_with_the_old_migrations_alone_is_not_taken_for_an_older_one() {
        let mut conn = migrated();
        conn.batch_execute(
            "UPDATE __diesel_schema_migrations SET version = replace(version, '202612', '202611')",
        )
        .unwrap();
        for done in [check(&mut conn), migrations::run(&mut conn)] {
            let why = done.unwrap_err().to_string();
            assert!(why.starts_with("an unreleased version"), "{why}");
        }
    }
}
