REMEMBER = 3 * 24 * 60 * 60  # seconds; longer than the retries last


def once(database, webhook_id, now, work):
    """Does `work` for the first request with this webhook-id, and nothing for those after it.

    Answer 2xx either way. What `work` writes into `database` (sqlite3) and the id are committed
    together or not at all: so a crash in between leaves it to the next request.
    """
    with database:
        seen = "CREATE TABLE IF NOT EXISTS seen (webhook_id TEXT PRIMARY KEY, at INTEGER NOT NULL)"
        database.execute(seen)
        new = database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (webhook_id, now))
        if new.rowcount == 1:
            work(database)
        database.execute("DELETE FROM seen WHERE at < ?", (now - REMEMBER,))
