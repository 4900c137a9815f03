-- How far retention trusts the clock (`at`), and what the clock said at its last run (`seen`), in
-- microseconds since 1970. The newest event is the witness of the time before there was a row.
CREATE TABLE retention (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at BIGINT NOT NULL,
    seen BIGINT NOT NULL
);
INSERT INTO retention (id, at, seen)
SELECT 1, least(now, coalesce((SELECT max(received_at) FROM events), now)), now
  FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) clock;

-- Several dispatchers that forgot the same events at once subtracted their bytes several times.
LOCK TABLE stored_bytes IN EXCLUSIVE MODE;
DELETE FROM stored_bytes;
INSERT INTO stored_bytes (organization_id, part, bytes)
SELECT organization_id, 0, sum(length(body)) FROM events GROUP BY organization_id;

-- Partitions belong to the owner of `attempts`, but the services need no more than the right to
-- write rows. Each function asks for the right that the role has on the table itself: INSERT to
-- make room for a day, DELETE to forget one. The schema is the one that the tables are made in.
DO $make$
DECLARE
    path text := format('%I, pg_temp', current_schema());
BEGIN
    EXECUTE format($function$
        CREATE FUNCTION prepare_attempt_days(first bigint, last bigint) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = %s SET lock_timeout = '3s' AS $body$
        DECLARE
            caller name := coalesce(nullif(current_setting('role'), 'none'), session_user);
            micros constant bigint := 86400000000;
        BEGIN
            IF NOT has_table_privilege(caller, 'attempts', 'INSERT') THEN
                RAISE insufficient_privilege USING MESSAGE = 'permission denied for table attempts';
            END IF;
            IF last - first NOT BETWEEN 0 AND 30 THEN
                RAISE invalid_parameter_value USING MESSAGE = 'at most 31 days at once';
            END IF;
            FOR day IN first .. last LOOP
                CONTINUE WHEN to_regclass('attempts_d' || day) IS NOT NULL;
                BEGIN
                    EXECUTE format('CREATE TABLE %%I PARTITION OF attempts FOR VALUES FROM (%%s) TO (%%s)',
                                   'attempts_d' || day, day * micros, (day + 1) * micros);
                EXCEPTION
                    -- Another process makes it, or the default partition has rows of that day.
                    WHEN duplicate_table OR unique_violation OR check_violation THEN NULL;
                END;
            END LOOP;
        END
        $body$
    $function$, path);
    EXECUTE format($function$
        CREATE FUNCTION drop_attempt_day(before bigint) RETURNS integer
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = %s SET lock_timeout = '3s' AS $body$
        DECLARE
            caller name := coalesce(nullif(current_setting('role'), 'none'), session_user);
            today bigint := floor(extract(epoch FROM clock_timestamp()) / 86400);
            oldest name;
        BEGIN
            IF NOT has_table_privilege(caller, 'attempts', 'DELETE') THEN
                RAISE insufficient_privilege USING MESSAGE = 'permission denied for table attempts';
            END IF;
            IF before > today THEN
                RAISE invalid_parameter_value USING MESSAGE = 'the day is not over';
            END IF;
            SELECT c.relname INTO oldest
              FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'attempts'::regclass AND c.relname ~ '^attempts_d[0-9]{1,7}$'
               AND CASE WHEN c.relname ~ '^attempts_d[0-9]{1,7}$'
                        THEN substr(c.relname, 11)::bigint < before END
             ORDER BY substr(c.relname, 11)::bigint LIMIT 1;
            IF oldest IS NULL THEN
                RETURN 0;
            END IF;
            EXECUTE format('DROP TABLE %%I', oldest);
            RETURN 1;
        END
        $body$
    $function$, path);
END
$make$;
