-- A query behind a waiting lock waits, too, so the wait is short and starts again.
DO $$
BEGIN
    SET LOCAL lock_timeout = '1s';
    LOOP
        BEGIN
            LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(1);
        END;
    END LOOP;
END
$$;

-- The request as it was sent and the head of its response: NULL for attempts from before, and where nothing was sent or
-- received. `HeaderLog` and `PhaseTimes` in crates/core/src/http_log.rs define the texts. Masked values are not stored.
ALTER TABLE attempts ADD COLUMN request_headers TEXT;
ALTER TABLE attempts ADD COLUMN response_headers TEXT;
ALTER TABLE attempts ADD COLUMN remote_address TEXT;
ALTER TABLE attempts ADD COLUMN timings TEXT;
