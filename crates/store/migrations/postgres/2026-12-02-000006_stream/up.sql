-- The order in which `GET /stream` reads the log: `docs/decisions/0018-tail-of-the-log.md`.

-- A query behind a waiting lock waits, too, so the wait is short and starts again.
DO $$
BEGIN
    SET LOCAL lock_timeout = '1s';
    LOOP
        BEGIN
            LOCK TABLE deliveries, attempts, subscriptions IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(1);
        END;
    END LOOP;
END
$$;

-- The transaction that wrote the row: NULL in rows from before, which no stream has.
ALTER TABLE attempts ADD COLUMN recorded_in BIGINT;
ALTER TABLE attempts ALTER COLUMN recorded_in SET DEFAULT pg_current_xact_id()::text::bigint;
CREATE INDEX attempts_by_recording ON attempts (organization_id, recorded_in, id) WHERE recorded_in IS NOT NULL;

-- What streams tell and the log of attempts does not have: changes of subscriptions, and ends of deliveries without an
-- attempt. Triggers write the rows for every writer.
CREATE TABLE stream_changes (
    organization_id TEXT NOT NULL,
    recorded_in BIGINT NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    id UUID NOT NULL DEFAULT gen_random_uuid(),
    subscription_id BIGINT NOT NULL,
    -- `created`, `changed`, `disabled` or `deleted`; or the state of the delivery.
    kind TEXT NOT NULL,
    -- Why the system disabled the subscription.
    reason TEXT,
    -- NULL for a subscription, as the following columns.
    delivery_id UUID,
    event_key UUID,
    event_type TEXT,
    attempts INTEGER,
    at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, recorded_in, id)
);
CREATE INDEX stream_changes_by_age ON stream_changes (at);

-- The rows of an organization after a place, in the order of the indexes. With its usual settings, the planner takes them
-- for few, and would read and sort all of them for each page.
CREATE FUNCTION tail_after(owner TEXT, place BIGINT, place_id UUID, most INTEGER)
RETURNS TABLE (recorded_in BIGINT, id UUID, at BIGINT, is_change BOOLEAN)
LANGUAGE plpgsql STABLE SET enable_sort = off SET enable_bitmapscan = off SET enable_seqscan = off SET jit = off AS $body$
BEGIN
    RETURN QUERY
        (SELECT t.recorded_in, t.id, t.created_at, FALSE FROM attempts t
          WHERE t.organization_id = owner AND t.recorded_in >= place AND (t.recorded_in, t.id) > (place, place_id)
          ORDER BY t.recorded_in, t.id LIMIT most)
        UNION ALL
        (SELECT c.recorded_in, c.id, c.at, TRUE FROM stream_changes c
          WHERE c.organization_id = owner AND c.recorded_in >= place AND (c.recorded_in, c.id) > (place, place_id)
          ORDER BY c.recorded_in, c.id LIMIT most);
END
$body$;

CREATE FUNCTION stream_subscription() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO stream_changes (organization_id, subscription_id, kind, reason, at)
    VALUES (NEW.organization_id, NEW.id,
            CASE WHEN TG_OP = 'INSERT' THEN 'created'
                 WHEN NEW.deleted_at IS NOT NULL THEN 'deleted'
                 WHEN OLD.is_active AND NOT NEW.is_active THEN 'disabled'
                 ELSE 'changed' END,
            NEW.disabled_reason, coalesce(NEW.deleted_at, NEW.updated_at));
    RETURN NULL;
END
$body$;
CREATE TRIGGER subscription_inserted AFTER INSERT ON subscriptions
    FOR EACH ROW EXECUTE FUNCTION stream_subscription();
CREATE TRIGGER subscription_changed AFTER UPDATE OF version ON subscriptions
    FOR EACH ROW WHEN (OLD.version <> NEW.version) EXECUTE FUNCTION stream_subscription();

CREATE FUNCTION stream_delivery_end() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO stream_changes
        (organization_id, subscription_id, kind, delivery_id, event_key, event_type, attempts, at)
    VALUES (NEW.organization_id, NEW.subscription_id, NEW.state, NEW.id, NEW.event_key,
            NEW.event_type, NEW.attempts, coalesce(NEW.finished_at, NEW.created_at));
    RETURN NULL;
END
$body$;
-- An end with an attempt is in the log.
CREATE TRIGGER delivery_ended AFTER UPDATE OF state ON deliveries
    FOR EACH ROW WHEN (OLD.state = 'pending' AND NEW.state <> 'pending' AND NEW.attempts = OLD.attempts)
    EXECUTE FUNCTION stream_delivery_end();

-- What retention has removed of the log, for the event `dropped`: a row for each organization and day.
CREATE TABLE stream_removals (
    organization_id TEXT NOT NULL,
    day BIGINT NOT NULL,
    -- `attempts` or `changes`.
    source TEXT NOT NULL,
    count BIGINT NOT NULL,
    -- The last place of the removed rows.
    last_recorded_in BIGINT NOT NULL,
    last_id UUID NOT NULL,
    PRIMARY KEY (organization_id, day, source)
);
CREATE INDEX stream_removals_by_day ON stream_removals (day);
