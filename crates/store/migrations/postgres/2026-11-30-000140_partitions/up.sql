-- Subscriptions are divided into partitions, and one dispatcher owns a partition at a time. `count` is the only place that
-- says how many there are: every statement that makes a delivery pending reads it.
CREATE TABLE partitioning (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    count INTEGER NOT NULL
);
INSERT INTO partitioning (id, count) VALUES (1, 64);

CREATE TABLE partitions (
    partition INTEGER PRIMARY KEY,
    owner UUID,
    -- Raised by one whenever the owner changes.
    epoch BIGINT NOT NULL,
    -- How many owners in a row died without release, and when the last of these deaths was noticed.
    deaths INTEGER NOT NULL DEFAULT 0,
    died_at BIGINT,
    -- Requests of an earlier owner that may be in flight.
    note TEXT NOT NULL DEFAULT ''
) WITH (fillfactor = 50);
INSERT INTO partitions (partition, epoch) SELECT partition, 0 FROM generate_series(0, 63) partition;

CREATE TABLE dispatchers (
    id UUID PRIMARY KEY,
    -- Raised by one with each sign of life.
    beat BIGINT NOT NULL,
    draining BOOLEAN NOT NULL,
    able BOOLEAN NOT NULL,
    seen_at BIGINT NOT NULL
) WITH (fillfactor = 50);

-- The default is there for the rows of today alone, which are not rewritten: afterwards, a program of an older version
-- inserts no delivery, and its event stays on the broker. The index comes before the update. Else the update would leave
-- versions of rows that older transactions must not find by the index, and it would serve no query while one of them is open.
ALTER TABLE deliveries ADD COLUMN partition INTEGER NOT NULL DEFAULT -1;
ALTER TABLE deliveries ALTER COLUMN partition DROP DEFAULT;
CREATE INDEX deliveries_due ON deliveries (partition, due) WHERE due IS NOT NULL;
UPDATE deliveries SET partition = subscription_id % (SELECT count FROM partitioning) WHERE due IS NOT NULL;
