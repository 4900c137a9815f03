-- Subscriptions are divided into partitions, and one dispatcher owns a partition at a time. `count` is the only place that
-- says how many there are: every statement that makes a delivery pending reads it. One process delivers from a folder, so
-- there is one.
CREATE TABLE partitioning (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    count INTEGER NOT NULL
);
INSERT INTO partitioning (id, count) VALUES (1, 1);

CREATE TABLE partitions (
    partition INTEGER PRIMARY KEY,
    owner BLOB,
    -- Raised by one whenever the owner changes.
    epoch BIGINT NOT NULL,
    -- How many owners in a row died without release, and when the last of these deaths was noticed.
    deaths INTEGER NOT NULL DEFAULT 0,
    died_at BIGINT,
    -- Requests of an earlier owner that may be in flight.
    note TEXT NOT NULL DEFAULT ''
);
INSERT INTO partitions (partition, epoch) VALUES (0, 0);

CREATE TABLE dispatchers (
    id BLOB PRIMARY KEY,
    -- Raised by one with each sign of life.
    beat BIGINT NOT NULL,
    draining BOOLEAN NOT NULL,
    able BOOLEAN NOT NULL,
    seen_at BIGINT NOT NULL
);

ALTER TABLE deliveries ADD COLUMN partition INTEGER NOT NULL DEFAULT 0;
CREATE INDEX deliveries_due ON deliveries (partition, due) WHERE due IS NOT NULL;
