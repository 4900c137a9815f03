use hookline_core::timestamp::Timestamp;

use crate::Store;
use crate::error::StoreError;

use super::*;

fn refusal<T>(opened: Result<T, StoreError>) -> String {
    opened.err().expect("it is refused").to_string()
}

#[tokio::test]
async fn a_folder_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::embedded(folder.path()).unwrap());
    let file = folder.path().join("hookline.db");
    let mut conn = Conn::establish(file.to_str().unwrap()).unwrap();
    conn.batch_execute("INSERT INTO __diesel_schema_migrations (version) VALUES (99990101000000)")
        .unwrap();
    for why in [
        refusal(Store::in_existing_folder(folder.path())),
        refusal(Store::beside_embedded(folder.path())),
    ] {
        assert!(
            why.contains(
                "the folder's schema is newer than this program (migration 99990101000000)"
            ),
            "{why}"
        );
    }
}

#[test]
fn a_delivery_that_an_earlier_version_had_in_hand_is_due_after_the_migration() {
    const UP: &str =
        include_str!("../../migrations/sqlite/2026-11-30-000160_rows_are_the_queue/up.sql");
    const DOWN: &str =
        include_str!("../../migrations/sqlite/2026-11-30-000160_rows_are_the_queue/down.sql");
    let mut conn = Conn::establish(":memory:").unwrap();
    migrate(&mut conn).unwrap();
    let columns = |conn: &mut Conn| -> String {
        let names = "group_concat(m.name || '.' || i.name) FROM sqlite_master m, pragma_table_info(m.name) i";
        let names = diesel::select(diesel::dsl::sql::<Text>(names));
        names.get_result(conn).unwrap()
    };
    let before = columns(&mut conn);
    conn.batch_execute(DOWN).unwrap();
    conn.batch_execute(
        "INSERT INTO deliveries (id, organization_id, subscription_id, event_key, origin, activation, generation,
                                 attempts, state, due, created_at, visible_at, takes)
         VALUES (zeroblob(16), 'a', 1, x'00', 'event', 0, 0, 0, 'pending', 5, 5, 300000005, 3);
         INSERT INTO replays (id, organization_id, subscription_id, wanted, expected, replayed, unconfirmed, turn,
                              next_turn, state, reason, created_at, finished_at)
         VALUES (x'01', 'a', 1, 'undelivered', 1, 1, zeroblob(16), 1, 5, 'cancelled', 'requested', 1, 5)",
    )
    .unwrap();
    conn.batch_execute(UP).unwrap();
    assert_eq!(columns(&mut conn), before);
    let now = Timestamp::from_unix_micros(5);
    assert_eq!(
        queries::partitions::count_due(&mut conn, now, 10).unwrap(),
        1
    );
    assert!(!queries::replaying::is_due(&mut conn, now).unwrap());
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
