-- What lists are filtered by. Later migrations fill in the columns of existing rows, and make the indexes.

-- A query behind a waiting lock waits, too, so the wait is short and starts again.
DO $$
BEGIN
    SET LOCAL lock_timeout = '1s';
    LOOP
        BEGIN
            LOCK TABLE events, deliveries IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(1);
        END;
    END LOOP;
END
$$;

-- NULL in rows of a service of the version before, which may run meanwhile.
ALTER TABLE events ADD COLUMN workflow_id TEXT;

-- The type of its event; '' in rows of such a service.
ALTER TABLE deliveries ADD COLUMN event_type TEXT NOT NULL DEFAULT '';
-- The result of the last attempt.
ALTER TABLE deliveries ADD COLUMN response_status INTEGER;
ALTER TABLE deliveries ADD COLUMN error_kind TEXT;
ALTER TABLE deliveries ADD COLUMN duration_ms BIGINT;
