-- The roll-up of attempts and of ended deliveries, for `GET /stats`. The statement that records an attempt counts it here.
-- Rows of a minute are folded into rows of their hour after a day.
CREATE TABLE attempt_stats (
    organization_id TEXT COLLATE "C" NOT NULL,
    -- 0: all subscriptions of the organization. Each count stands in two rows, so that the numbers of an organization are
    -- no sum over its subscriptions.
    subscription_id BIGINT NOT NULL,
    -- The seconds of the row: 60 or 3600.
    width INTEGER NOT NULL,
    -- The begin of the minute or hour.
    at BIGINT NOT NULL,
    event_type TEXT COLLATE "C" NOT NULL,
    -- Outcome, class of the status, kind of the error, and the buckets of duration and latency, packed into one number:
    -- `crates/store/src/rollup/cell.rs`.
    cell INTEGER NOT NULL,
    -- Each writer has its own rows, so that writers do not wait for each other.
    shard INTEGER NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (organization_id, subscription_id, width, at, event_type, cell, shard)
) WITH (fillfactor = 80);
CREATE INDEX attempt_stats_by_age ON attempt_stats (width, at);
