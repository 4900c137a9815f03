-- Times are microseconds since 1970. Callers derive the ids of events, deliveries and attempts (UUIDv5), so a repeated
-- insert finds its row.

CREATE TABLE organizations (
    id TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    -- To the minute.
    last_used_at BIGINT
);

CREATE TABLE api_key_organizations (
    key_id BIGINT NOT NULL REFERENCES api_keys (id),
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    PRIMARY KEY (key_id, organization_id)
);

-- The keys that secrets and header values may be sealed under. Only the key itself opens its proof.
CREATE TABLE master_keys (
    id TEXT PRIMARY KEY,
    proof BLOB NOT NULL
);

-- Each change of a subscription locks this row. Versions therefore become visible in their order, and an index that has
-- seen version n has seen all before it.
CREATE TABLE subscription_version (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    value BIGINT NOT NULL
);
INSERT INTO subscription_version (id, value) VALUES (1, 0);

-- A version number that was lost with the database's last commits is given out again. The mark, a random number, tells
-- the two apart: an index that knows version n under another mark, or one whose version has no mark, loads all
-- subscriptions again. The last 1,000 versions have their mark.
CREATE TABLE subscription_marks (
    version INTEGER PRIMARY KEY,
    mark BIGINT NOT NULL
);
INSERT INTO subscription_marks (version, mark) SELECT value, random() FROM subscription_version;

CREATE TABLE subscriptions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    organization_id TEXT NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    events TEXT NOT NULL,
    -- Secrets and header values are sealed under a master key; header names are not.
    secret BLOB,
    -- After a rotation, the previous secret also signs until then.
    previous_secret BLOB,
    previous_secret_until BIGINT,
    headers BLOB NOT NULL,
    header_names TEXT NOT NULL,
    is_active BOOLEAN NOT NULL,
    disabled_reason TEXT,
    -- Counts how often it was switched off: deliveries of an earlier activation are void.
    activation BIGINT NOT NULL,
    version BIGINT NOT NULL,
    -- The time from which failures count: it was created, switched on, or given another URL.
    failures_from BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- A deleted subscription keeps its row: its id is never used again, and its deliveries and attempts belong to it. Its
    -- URL is erased at once, and its name with the last of its events.
    deleted_at BIGINT
);
CREATE INDEX subscriptions_by_organization ON subscriptions (organization_id, id) WHERE deleted_at IS NULL;
CREATE INDEX subscriptions_by_version ON subscriptions (version);
CREATE INDEX subscriptions_in_rotation ON subscriptions (previous_secret_until) WHERE previous_secret_until IS NOT NULL;
CREATE INDEX subscriptions_deleted ON subscriptions (deleted_at) WHERE deleted_at IS NOT NULL AND name <> '';

-- The number of subscriptions of an organization without the deleted ones: a count would read all of them. Triggers keep
-- it exact for every writer.
CREATE TABLE subscription_counts (
    organization_id TEXT PRIMARY KEY,
    count BIGINT NOT NULL
);
CREATE TRIGGER subscription_made AFTER INSERT ON subscriptions WHEN NEW.deleted_at IS NULL
BEGIN
    INSERT INTO subscription_counts (organization_id, count) VALUES (NEW.organization_id, 1)
    ON CONFLICT (organization_id) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER subscription_deleted AFTER UPDATE OF deleted_at ON subscriptions
WHEN OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL
BEGIN
    UPDATE subscription_counts SET count = count - 1 WHERE organization_id = NEW.organization_id;
END;

-- Subscriptions that had an exhausted delivery, and the time of their first failure with no success after it. A success
-- leaves the row, which is checked when its time has come.
CREATE TABLE failing_subscriptions (
    subscription_id BIGINT PRIMARY KEY,
    since BIGINT NOT NULL
);
CREATE INDEX failing_subscriptions_by_age ON failing_subscriptions (since);

-- Subscriptions whose circuit breaker is not closed. A row is written when it opens and when its wait grows, and removed
-- when it closes, so that the next start goes on at the same pace.
CREATE TABLE circuit_breakers (
    subscription_id BIGINT PRIMARY KEY,
    opened_at BIGINT NOT NULL,
    -- Between two probes.
    wait_seconds INTEGER NOT NULL
);

-- The outbox of operational events: a row for each subscription that the system disabled, until it is published.
CREATE TABLE operational_events (
    id BLOB PRIMARY KEY,
    organization_id TEXT NOT NULL,
    subscription_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    reason TEXT NOT NULL,
    at BIGINT NOT NULL
);

CREATE TABLE events (
    key BLOB PRIMARY KEY,
    organization_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    body BLOB NOT NULL,
    traceparent TEXT,
    received_at BIGINT NOT NULL
);
CREATE INDEX events_by_age ON events (received_at);

-- The stored bytes of events of an organization are the sum over its rows. There are a few, so that writers seldom wait
-- for each other.
CREATE TABLE storage_usage (
    organization_id TEXT NOT NULL,
    shard INTEGER NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (organization_id, shard)
);

-- A pending row with `due` is owed, and nothing else says so.
CREATE TABLE deliveries (
    id BLOB PRIMARY KEY,
    organization_id TEXT NOT NULL,
    subscription_id BIGINT NOT NULL,
    event_key BLOB NOT NULL,
    -- Without a default: a program that does not know the column must not insert a delivery that no dispatcher finds.
    partition INTEGER NOT NULL,
    origin TEXT NOT NULL,
    activation BIGINT NOT NULL,
    -- A restart begins the retry schedule again, and the attempts are counted on. These columns tell the number of an
    -- attempt within its generation, and what began the generation.
    generation INTEGER NOT NULL,
    started_by TEXT NOT NULL DEFAULT 'first',
    attempts_before INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL,
    state TEXT NOT NULL,
    due BIGINT,
    -- The class of a due delivery that waits for its subscription's turn: 1 live, 2 replay. It never changes `due`. Looks
    -- pass over these rows, and their subscription's owner reads them in order.
    backlog SMALLINT,
    finished_at BIGINT,
    exhausted_reason TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX deliveries_by_event ON deliveries (event_key, subscription_id);
CREATE INDEX deliveries_by_subscription ON deliveries (subscription_id, created_at DESC, id DESC);
-- The predicate names `due` and not `state`: the planner would use an index with `state = 'pending'` also for a statement
-- that names a delivery by its id, and read everything that is pending.
CREATE INDEX deliveries_due ON deliveries (partition, due) WHERE due IS NOT NULL AND backlog IS NULL;
CREATE INDEX deliveries_backlog ON deliveries (partition, subscription_id, backlog, due, id)
    WHERE due IS NOT NULL AND backlog IS NOT NULL;

-- Crash counts of the quarantine: messages that are handled after their process may have crashed on them. A row exists
-- while the message is handled. A row that stays counts a crash.
CREATE TABLE crash_counts (
    key BLOB PRIMARY KEY,
    crashes INTEGER NOT NULL,
    counted_at BIGINT NOT NULL
);

-- Dead letters of deliveries, with the reason. A row exists from the moment its delivery ends as poison until the
-- delivery is restarted, retention deletes it, or an operator drops the row.
CREATE TABLE dead_deliveries (
    delivery_id BLOB PRIMARY KEY,
    reason TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX dead_deliveries_by_age ON dead_deliveries (at, delivery_id);

-- The log. A row is written only for a delivery that moved, which keeps it unique.
CREATE TABLE attempts (
    id BLOB NOT NULL,
    delivery_id BLOB NOT NULL,
    organization_id TEXT NOT NULL,
    subscription_id BIGINT NOT NULL,
    event_key BLOB NOT NULL,
    event_type TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    trigger TEXT NOT NULL,
    status TEXT NOT NULL,
    url TEXT NOT NULL,
    response_status INTEGER,
    response_body TEXT,
    error_kind TEXT,
    error_message TEXT,
    duration_ms BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    next_attempt_at BIGINT
);
CREATE INDEX attempts_by_organization ON attempts (organization_id, created_at DESC, id DESC);
CREATE INDEX attempts_by_subscription ON attempts (subscription_id, created_at DESC, id DESC);
CREATE INDEX attempts_by_delivery ON attempts (delivery_id, created_at DESC, id DESC);
-- For pages of one type or of failures: without these indexes, a page would read all rows that it passes over.
CREATE INDEX attempts_by_type ON attempts (organization_id, event_type, created_at DESC, id DESC);
CREATE INDEX attempts_failed_of_organization ON attempts (organization_id, created_at DESC, id DESC)
    WHERE status = 'failed';
CREATE INDEX attempts_failed_of_subscription ON attempts (subscription_id, created_at DESC, id DESC)
    WHERE status = 'failed';

-- The totals of pages, which would otherwise count the log. Each writer has its own rows, so that writers do not wait for
-- each other.
CREATE TABLE attempt_counts (
    organization_id TEXT NOT NULL,
    subscription_id BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    status TEXT NOT NULL,
    day BIGINT NOT NULL,
    shard INTEGER NOT NULL,
    count BIGINT NOT NULL,
    -- The time of the newest counted attempt: it tells the last success of a subscription without a search of its log.
    last_at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, subscription_id, event_type, status, day, shard)
);
CREATE INDEX attempt_counts_by_day ON attempt_counts (day);

-- A replay restarts deliveries of one subscription in the order of their creation, in steps.
CREATE TABLE replays (
    id BLOB PRIMARY KEY,
    organization_id TEXT NOT NULL,
    subscription_id BIGINT NOT NULL,
    -- The filter of the request.
    wanted TEXT NOT NULL,
    event_types TEXT,
    since BIGINT,
    until BIGINT,
    -- The progress.
    expected BIGINT NOT NULL,
    replayed BIGINT NOT NULL,
    cursor_at BIGINT,
    cursor_id BLOB,
    -- A dispatcher that takes a step raises `lease` by one. No other takes a step before `next_step_at`, which is NULL when
    -- the replay has ended.
    lease BIGINT NOT NULL,
    next_step_at BIGINT,
    state TEXT NOT NULL,
    reason TEXT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX replays_due ON replays (next_step_at) WHERE next_step_at IS NOT NULL;
CREATE INDEX replays_running ON replays (organization_id) WHERE state = 'running';

-- Subscriptions are divided into partitions, and one dispatcher owns a partition at a time. `count` is the only place
-- that has their number: every statement that makes a delivery pending reads it.
-- One process delivers from a folder, so there is one.
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
    -- The number of owners in a row that died without release, and when the last of these deaths was noticed.
    deaths INTEGER NOT NULL DEFAULT 0,
    died_at BIGINT,
    -- Requests of an earlier owner that may be in flight.
    note TEXT NOT NULL DEFAULT ''
);
INSERT INTO partitions (partition, epoch) VALUES (0, 0);

CREATE TABLE dispatchers (
    id BLOB PRIMARY KEY,
    -- Raised by one with each sign of life.
    heartbeat BIGINT NOT NULL,
    draining BOOLEAN NOT NULL,
    can_deliver BOOLEAN NOT NULL,
    seen_at BIGINT NOT NULL
);

-- Requests with an `Idempotency-Key`, for 24 hours. Both digests are made with the API key, which is not in the database.
-- A row without an answer belongs to the request with its claim, until `claimed_until`.
CREATE TABLE idempotent_requests (
    id BLOB PRIMARY KEY,
    fingerprint BLOB NOT NULL,
    claim BIGINT NOT NULL,
    claimed_until BIGINT NOT NULL,
    answer TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX idempotent_requests_by_age ON idempotent_requests (created_at);

-- The clock of retention: the time that it trusts (`at`), and the time of the clock at its last run (`seen`).
CREATE TABLE retention_clock (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at BIGINT NOT NULL,
    seen BIGINT NOT NULL
);
INSERT INTO retention_clock (id, at, seen)
SELECT 1, now, now FROM (SELECT CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) AS now);

-- The queue of published events. An entry that was received is hidden until `visible_at`.
CREATE TABLE event_queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    content_type TEXT,
    traceparent TEXT,
    body BLOB NOT NULL,
    -- When the rate limit admits the message, if it was counted.
    admitted_at BIGINT,
    visible_at BIGINT NOT NULL,
    receive_count INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX event_queue_visible ON event_queue (visible_at, id);

CREATE TABLE dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    reason TEXT NOT NULL,
    content_type TEXT,
    traceparent TEXT,
    body BLOB NOT NULL,
    created_at BIGINT NOT NULL
);
