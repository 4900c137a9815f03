-- Fills in what lists are filtered by, in slices that hold their locks for a moment.
DO $$
DECLARE
    slice UUID[];
    last UUID := '00000000-0000-0000-0000-000000000000';
BEGIN
    LOOP
        SELECT array_agg(key ORDER BY key) INTO slice
          FROM (SELECT key FROM events WHERE key >= last ORDER BY key LIMIT 1000) AS next;
        -- Only the fields in front of `organization_id` are read: PostgreSQL does not read every `data` that is valid JSON,
        -- such as one with \u0000. Inside a string the quotes of this name would be escaped.
        UPDATE events
           SET workflow_id =
                   (split_part(convert_from(body, 'UTF8'), ',"organization_id":', 1) || '}')::json ->> 'workflow_id'
         WHERE key = ANY (slice) AND workflow_id IS NULL
           AND convert_from(body, 'UTF8') LIKE '%,"organization_id":%';
        COMMIT;
        EXIT WHEN last = slice[array_upper(slice, 1)] OR slice IS NULL;
        last := slice[array_upper(slice, 1)];
    END LOOP;

    last := '00000000-0000-0000-0000-000000000000';
    LOOP
        -- Locks rows in the order of ids, as services do.
        SELECT array_agg(id ORDER BY id) INTO slice
          FROM (SELECT id FROM deliveries WHERE id >= last ORDER BY id LIMIT 1000 FOR NO KEY UPDATE) AS next;
        UPDATE deliveries
           SET event_type = coalesce(
                   (SELECT events.event_type FROM events WHERE events.key = deliveries.event_key), ''),
               (response_status, error_kind, duration_ms) =
                   (SELECT response_status, error_kind, duration_ms FROM attempts
                     WHERE delivery_id = deliveries.id AND deliveries.attempts > 0
                     ORDER BY created_at DESC, id DESC LIMIT 1)
         WHERE id = ANY (slice) AND event_type = '';
        COMMIT;
        EXIT WHEN last = slice[array_upper(slice, 1)] OR slice IS NULL;
        last := slice[array_upper(slice, 1)];
    END LOOP;
END
$$;
