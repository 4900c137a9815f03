-- Each service writes this row once a second: a store that can be read and not written is not ready.
-- It is no row of work, so that the probe waits for no other transaction.
CREATE TABLE write_probe (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at BIGINT NOT NULL
) WITH (fillfactor = 50);
