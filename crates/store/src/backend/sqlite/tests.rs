use diesel::sql_types::Binary;

use crate::Store;
use crate::error::StoreError;
use crate::schema::events;

use super::*;

fn refusal<T>(opened: Result<T, StoreError>) -> String {
    opened.err().expect("it is refused").to_string()
}

/// The errors of commands on a folder. The folder's database has this migration.
fn refusals_of(applied: &str) -> [String; 3] {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::embedded(folder.path()).unwrap());
    let file = folder.path().join("hookline.db");
    let mut conn = Conn::establish(file.to_str().unwrap()).unwrap();
    // The threads of the store that was dropped may close their connections a moment later.
    conn.batch_execute("PRAGMA busy_timeout = 10000").unwrap();
    conn.batch_execute(&format!(
        "INSERT INTO __diesel_schema_migrations (version) VALUES ({applied})"
    ))
    .unwrap();
    [
        refusal(Store::in_existing_folder(folder.path())),
        refusal(Store::beside_embedded(folder.path())),
        refusal(Store::embedded(folder.path())),
    ]
}

#[tokio::test]
async fn a_folder_of_a_newer_version_is_refused() {
    for why in refusals_of("99990101000000") {
        let newer = "the folder's schema is newer than this program (migration 99990101000000)";
        assert!(why.contains(newer), "{why}");
    }
}

#[tokio::test]
async fn a_folder_of_an_unreleased_version_is_refused() {
    for unreleased in ["20261123000000", "20261130000170"] {
        for why in refusals_of(unreleased) {
            let line = format!(
                "an unreleased version of Hookline made the folder's schema (migration {unreleased}), and no version \
                 migrates it: start with a new folder"
            );
            assert!(why.contains(&line), "{why}");
        }
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_not_written_to_by_a_command_that_reads() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hookline.db");
    let mut conn = Conn::establish(file.to_str().unwrap()).unwrap();
    conn.batch_execute("CREATE TABLE mine (n INTEGER)").unwrap();
    drop(conn);
    let before = std::fs::read(&file).unwrap();
    let why = refusal(Store::in_existing_folder(folder.path()));
    assert!(why.contains("is no database of Hookline"), "{why}");
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

#[test]
fn workflow_ids_are_filled_in_whatever_the_data_of_an_event_is() {
    let mut conn = Conn::establish(":memory:").unwrap();
    migrate(&mut conn).unwrap();
    for body in crate::tests::bodies_to_migrate() {
        let insert =
            "INSERT INTO events (key, organization_id, event_id, event_type, body, received_at)
             VALUES (randomblob(16), 'o', 'e', 'workflow.failed', ?, 0)";
        diesel::sql_query(insert)
            .bind::<Binary, _>(body.as_bytes())
            .execute(&mut conn)
            .unwrap();
    }
    let up = include_str!("../../../migrations/sqlite/2026-12-02-000001_find/up.sql");
    conn.batch_execute(crate::tests::fill_in(up)).unwrap();
    let filled: i64 = events::table
        .filter(events::workflow_id.eq("w\"1"))
        .count()
        .get_result(&mut conn)
        .unwrap();
    assert_eq!(filled, 3);
}
