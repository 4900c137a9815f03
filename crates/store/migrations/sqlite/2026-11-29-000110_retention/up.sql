-- How far retention trusts the clock (`at`), and what the clock said at its last run (`seen`), in
-- microseconds since 1970. The newest event is the witness of the time before there was a row.
CREATE TABLE retention (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at BIGINT NOT NULL,
    seen BIGINT NOT NULL
);
INSERT INTO retention (id, at, seen)
SELECT 1, min(now, coalesce((SELECT max(received_at) FROM events), now)), now
  FROM (SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) AS now);
