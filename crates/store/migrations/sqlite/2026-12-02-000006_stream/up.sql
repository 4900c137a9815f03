-- The order in which `GET /stream` reads the log: `docs/decisions/0018-tail-of-the-log.md`.

-- The number of the last transaction that wrote to the log or to `stream_changes`.
CREATE TABLE stream_position (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    value BIGINT NOT NULL
);
INSERT INTO stream_position (id, value) VALUES (1, 0);

-- The number of the transaction that wrote the row: NULL in rows from before, which no stream has.
ALTER TABLE attempts ADD COLUMN recorded_in BIGINT;
CREATE INDEX attempts_by_recording ON attempts (organization_id, recorded_in, id) WHERE recorded_in IS NOT NULL;

-- What streams tell and the log of attempts does not have: changes of subscriptions, and ends of deliveries without an
-- attempt. Triggers write the rows for every writer.
CREATE TABLE stream_changes (
    organization_id TEXT NOT NULL,
    recorded_in BIGINT NOT NULL,
    id BLOB NOT NULL,
    subscription_id BIGINT NOT NULL,
    -- `created`, `changed`, `disabled` or `deleted`; or the state of the delivery.
    kind TEXT NOT NULL,
    -- Why the system disabled the subscription.
    reason TEXT,
    -- NULL for a subscription, as the following columns.
    delivery_id BLOB,
    event_key BLOB,
    event_type TEXT,
    attempts INTEGER,
    at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, recorded_in, id)
);
CREATE INDEX stream_changes_by_age ON stream_changes (at);

CREATE TRIGGER subscription_inserted AFTER INSERT ON subscriptions
BEGIN
    UPDATE stream_position SET value = value + 1;
    INSERT INTO stream_changes (organization_id, recorded_in, id, subscription_id, kind, reason, at)
    SELECT NEW.organization_id, value, randomblob(16), NEW.id, 'created', NEW.disabled_reason, NEW.updated_at
      FROM stream_position;
END;
CREATE TRIGGER subscription_changed AFTER UPDATE OF version ON subscriptions WHEN OLD.version <> NEW.version
BEGIN
    UPDATE stream_position SET value = value + 1;
    INSERT INTO stream_changes (organization_id, recorded_in, id, subscription_id, kind, reason, at)
    SELECT NEW.organization_id, value, randomblob(16), NEW.id,
           CASE WHEN NEW.deleted_at IS NOT NULL THEN 'deleted'
                WHEN OLD.is_active AND NOT NEW.is_active THEN 'disabled'
                ELSE 'changed' END,
           NEW.disabled_reason, coalesce(NEW.deleted_at, NEW.updated_at)
      FROM stream_position;
END;
-- An end with an attempt is in the log.
CREATE TRIGGER delivery_ended AFTER UPDATE OF state ON deliveries
WHEN OLD.state = 'pending' AND NEW.state <> 'pending' AND NEW.attempts = OLD.attempts
BEGIN
    UPDATE stream_position SET value = value + 1;
    INSERT INTO stream_changes
        (organization_id, recorded_in, id, subscription_id, kind, delivery_id, event_key, event_type, attempts, at)
    SELECT NEW.organization_id, value, randomblob(16), NEW.subscription_id, NEW.state, NEW.id,
           NEW.event_key, NEW.event_type, NEW.attempts, coalesce(NEW.finished_at, NEW.created_at)
      FROM stream_position;
END;

-- What retention has removed of the log, for the event `dropped`: a row for each organization and day.
CREATE TABLE stream_removals (
    organization_id TEXT NOT NULL,
    day BIGINT NOT NULL,
    -- `attempts` or `changes`.
    source TEXT NOT NULL,
    count BIGINT NOT NULL,
    -- The last place of the removed rows.
    last_recorded_in BIGINT NOT NULL,
    last_id BLOB NOT NULL,
    PRIMARY KEY (organization_id, day, source)
);
CREATE INDEX stream_removals_by_day ON stream_removals (day);
