use hookline_core::ids::DeliveryId;
use hookline_core::timestamp::Timestamp;

use crate::error::StoreError;
use crate::{DeadDelivery, Store};

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
    // The threads of the store that was dropped may close their connections a moment later.
    conn.batch_execute("PRAGMA busy_timeout = 10000").unwrap();
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
        include_str!("../../../migrations/sqlite/2026-11-30-000160_rows_are_the_queue/up.sql");
    const DOWN: &str =
        include_str!("../../../migrations/sqlite/2026-11-30-000160_rows_are_the_queue/down.sql");
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
    assert_eq!(sql::partitions::count_due(&mut conn, now, 10).unwrap(), 1);
    assert!(!sql::replay_steps::is_due(&mut conn, now).unwrap());
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
fn dead_letters_of_deliveries_become_deliveries_that_were_put_aside() {
    const FOLDER: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/migrations/sqlite/2026-11-30-000150_put_aside"
    );
    let migration = |name: &str| std::fs::read_to_string(format!("{FOLDER}/{name}.sql")).unwrap();
    let mut conn = Conn::establish(":memory:").unwrap();
    migrate(&mut conn).unwrap();
    conn.batch_execute(&migration("down")).unwrap();
    let delivery = |id: char, state: &str, gave_up: &str| {
        format!(
            "INSERT INTO deliveries (id, organization_id, subscription_id, event_key, origin, activation, generation,
                                     attempts, state, gave_up, created_at)
             VALUES (x'{}', 'a', 1, x'00', 'event', 0, 0, 0, '{state}', {gave_up}, 0);",
            id.to_string().repeat(32),
        )
    };
    let letter = |queue: &str, id: char, reason: &str, at: i64| {
        format!(
            "INSERT INTO dead_letters (queue, reason, body, created_at)
             VALUES ('{queue}', '{reason}', x'{}', {at});",
            id.to_string().repeat(32),
        )
    };
    let before = [
        delivery('1', "exhausted", "'poison'"),
        delivery('2', "delivered", "NULL"),
        letter("deliveries", '1', "first", 5),
        letter("deliveries", '1', "second", 7),
        letter("deliveries", '2', "started again since", 5),
        letter("deliveries", '3', "forgotten since", 5),
        letter("events", '4', "no event", 5),
    ];
    conn.batch_execute(&before.concat()).unwrap();
    conn.batch_execute(&migration("up")).unwrap();

    let one = DeliveryId(uuid::Uuid::from_bytes([0x11; 16]));
    let found = sql::dead_deliveries::page(&mut conn, None, 10).unwrap();
    let expected = DeadDelivery {
        delivery: one,
        reason: "second".to_owned(),
        since: Timestamp::from_unix_micros(7),
    };
    assert_eq!(found, [expected]);
    let left = diesel::dsl::sql::<Text>("SELECT group_concat(reason) FROM dead_letters");
    assert_eq!(left.get_result(&mut conn), Ok("no event".to_owned()));

    conn.batch_execute(&migration("down")).unwrap();
    let back = diesel::dsl::sql::<Text>("SELECT group_concat(reason) FROM dead_letters");
    assert_eq!(back.get_result(&mut conn), Ok("no event,second".to_owned()));
}
