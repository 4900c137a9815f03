use crate::Store;
use crate::error::StoreError;

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
