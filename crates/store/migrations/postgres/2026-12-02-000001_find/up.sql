-- What lists are filtered by. Rows of a service of the version before, which may run during the migration, have the defaults.

-- Both at once: a service that holds one of them and waits for the other would deadlock with this migration.
LOCK TABLE deliveries, events IN ACCESS EXCLUSIVE MODE;

-- NULL in rows of such a service.
ALTER TABLE events ADD COLUMN workflow_id TEXT;
-- Only the fields in front of `organization_id` are read: PostgreSQL does not read every `data` that is valid JSON, such as
-- one with \u0000. Inside a string the quotes of this name would be escaped.
UPDATE events
   SET workflow_id = (split_part(convert_from(body, 'UTF8'), ',"organization_id":', 1) || '}')::json ->> 'workflow_id'
 WHERE convert_from(body, 'UTF8') LIKE '%,"organization_id":%';
CREATE INDEX events_by_workflow ON events (organization_id, workflow_id, received_at DESC, key DESC)
    WHERE workflow_id IS NOT NULL;
CREATE INDEX events_by_type ON events (organization_id, event_type, received_at DESC, key DESC);

-- The type of its event; '' in rows of such a service.
ALTER TABLE deliveries ADD COLUMN event_type TEXT NOT NULL DEFAULT '';
-- The result of the last attempt.
ALTER TABLE deliveries ADD COLUMN response_status INTEGER;
ALTER TABLE deliveries ADD COLUMN error_kind TEXT;
ALTER TABLE deliveries ADD COLUMN duration_ms BIGINT;
UPDATE deliveries SET event_type = events.event_type FROM events WHERE events.key = deliveries.event_key;
UPDATE deliveries
   SET response_status = last.response_status, error_kind = last.error_kind, duration_ms = last.duration_ms
  FROM (SELECT DISTINCT ON (delivery_id) delivery_id, response_status, error_kind, duration_ms
          FROM attempts ORDER BY delivery_id, created_at DESC, id DESC) AS last
 WHERE last.delivery_id = deliveries.id;
CREATE INDEX deliveries_by_organization
    ON deliveries (organization_id, event_type, state, created_at DESC, id DESC);
