-- A query behind a waiting lock waits, too, so the wait is short and starts again.
DO $$
BEGIN
    SET LOCAL lock_timeout = '1s';
    LOOP
        BEGIN
            LOCK TABLE subscriptions, idempotent_requests IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_sleep(1);
        END;
    END LOOP;
END
$$;

-- What customers note about a subscription for themselves. `metadata` is a JSON object of texts.
ALTER TABLE subscriptions ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE subscriptions ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';

-- The answer of a request with an `Idempotency-Key`, sealed under a master key. Its `answer` is '' then. A row of an earlier
-- version has its answer in `answer`, without any secret.
ALTER TABLE idempotent_requests ADD COLUMN sealed_answer BYTEA;
