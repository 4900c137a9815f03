mod sqlite_plans;

/// Bodies of three events of the workflow `w"1`. Neither database reads all of them as JSON.
pub(crate) fn bodies_to_migrate() -> [String; 3] {
    let nested = format!("{}{}", "[".repeat(2_000), "]".repeat(2_000));
    [
        ("e", r#""\u0000""#),
        (r#",\"organization_id\":"#, r#""\ud800""#),
        ("e", &nested),
    ]
    .map(|(id, data)| {
        format!(
            r#"{{"event_id":"{id}","event_type":"workflow.failed","workflow_id":"w\"1","organization_id":"o","timestamp":"2025-12-21T10:30:00Z","data":{{"n":{data}}}}}"#
        )
    })
}

/// The statement of SQLite's migration that fills in workflow ids.
pub(crate) fn fill_in(up: &str) -> &str {
    let mut statements = up.split(';');
    statements
        .find(|statement| statement.contains("UPDATE events"))
        .unwrap()
}
