//! A full disk at will: SQLite answers alike when a file may have no more pages.

use std::sync::mpsc::channel;

use diesel::sql_types::BigInt;
use tempfile::TempDir;

use super::*;

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

fn open() -> (Writer, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hookline.db");
    let writer = Writer::start(file.to_str().unwrap(), Sharing::Shared);
    (writer.unwrap(), folder)
}

fn number(conn: &mut Conn, query: &str) -> Result<i64, StoreError> {
    Ok(diesel::sql_query(query).get_result::<Number>(conn)?.value)
}

/// Puts in an entry of so many bytes.
fn put(conn: &mut Conn, bytes: usize) -> Result<(), StoreError> {
    diesel::sql_query("INSERT INTO event_queue (body, visible_at) VALUES (zeroblob(?), 0)")
        .bind::<BigInt, _>(i64::try_from(bytes).unwrap())
        .execute(conn)?;
    Ok(())
}

/// The same as many queries do it: in a transaction of its own.
fn put_nested(conn: &mut Conn, bytes: usize) -> Result<(), StoreError> {
    conn.transaction(|conn| put(conn, bytes))
}

async fn entries(writer: &Writer) -> i64 {
    writer
        .run(|conn| number(conn, "SELECT count(*) AS value FROM event_queue"))
        .await
        .unwrap()
}

/// The file may have so many more pages than it has.
async fn leave_room(writer: &Writer, pages: i64) {
    writer
        .run(move |conn| {
            let has = number(conn, "SELECT page_count AS value FROM pragma_page_count")?;
            conn.batch_execute(&format!("PRAGMA max_page_count = {}", has + pages))?;
            Ok(())
        })
        .await
        .unwrap();
}

const TOO_MUCH: usize = 1_000_000;

#[tokio::test]
async fn of_a_group_that_does_not_fit_on_the_disk_nothing_is_done_and_all_hear_so() {
    let (writer, _folder) = open();
    leave_room(&writer, 20).await;
    let (go, gate) = channel();
    // The first job waits until the others are there, so that one commit is to serve them all.
    let small = writer.run(move |conn| {
        gate.recv().unwrap();
        put(conn, 1)
    });
    let large = writer.run(|conn| put_nested(conn, TOO_MUCH));
    let later = writer.run(|conn| put(conn, 2));
    let (small, large, later, ()) =
        tokio::join!(small, large, later, async { go.send(()).unwrap() });

    for result in [&small, &large] {
        assert_eq!(
            *result,
            Err(StoreError::Unavailable(
                "database or disk is full".to_owned()
            ))
        );
    }
    let kept = i64::from(later.is_ok());
    assert_eq!(entries(&writer).await, kept, "who was told so is right");
}

#[tokio::test]
async fn a_disk_that_has_room_again_is_written_without_a_restart() {
    let (writer, _folder) = open();
    leave_room(&writer, 20).await;
    for _ in 0..3 {
        let result = writer.run(|conn| put_nested(conn, TOO_MUCH)).await;
        assert!(
            matches!(result, Err(StoreError::Unavailable(_))),
            "{result:?}"
        );
        assert!(!writer.is_ready());
    }
    leave_room(&writer, 1_000).await;
    writer.run(|conn| put_nested(conn, TOO_MUCH)).await.unwrap();
    assert!(writer.is_ready());
    assert_eq!(entries(&writer).await, 1);
}

#[tokio::test]
async fn what_one_job_may_not_do_is_no_matter_of_the_others() {
    let (writer, _folder) = open();
    let (go, gate) = channel();
    let good = writer.run(move |conn| {
        gate.recv().unwrap();
        put(conn, 1)
    });
    let bad = writer.run(|conn| {
        put(conn, 1)?;
        diesel::sql_query("INSERT INTO event_queue (body) VALUES (NULL)").execute(conn)?;
        Ok(())
    });
    let (good, bad, ()) = tokio::join!(good, bad, async { go.send(()).unwrap() });
    assert_eq!(good, Ok(()));
    assert!(matches!(bad, Err(StoreError::Unavailable(_))), "{bad:?}");
    assert!(writer.is_ready());
    assert_eq!(entries(&writer).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_panics_is_an_error_of_its_own_and_the_writer_goes_on() {
    let (writer, _folder) = open();
    writer.run(|conn| put(conn, 1)).await.unwrap();
    let panicked = writer
        .run(|conn| -> Result<(), StoreError> {
            put(conn, 1)?;
            panic!("a bug")
        })
        .await;
    assert!(panicked.unwrap_err().is_transient());
    writer.run(|conn| put(conn, 1)).await.unwrap();
    assert!(writer.is_ready());
    assert_eq!(
        entries(&writer).await,
        2,
        "what the panic left was taken back"
    );
}
