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
