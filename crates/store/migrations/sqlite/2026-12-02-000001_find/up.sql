-- What lists are filtered by. Rows of a service of the version before, which may run during the migration, have the defaults.

-- NULL in rows of such a service.
ALTER TABLE events ADD COLUMN workflow_id TEXT;
-- Only the fields in front of `organization_id` are read: SQLite does not read every `data` that is valid JSON, such as one
-- that is nested deeply. Inside a string the quotes of this name would be escaped.
UPDATE events
   SET workflow_id = json_extract(
           substr(CAST(body AS TEXT), 1, instr(CAST(body AS TEXT), ',"organization_id":') - 1) || '}', '$.workflow_id')
 WHERE instr(CAST(body AS TEXT), ',"organization_id":') > 0;
CREATE INDEX events_by_workflow ON events (organization_id, workflow_id, received_at DESC, key DESC)
    WHERE workflow_id IS NOT NULL;
CREATE INDEX events_by_type ON events (organization_id, event_type, received_at DESC, key DESC);

-- The type of its event; '' in rows of such a service.
ALTER TABLE deliveries ADD COLUMN event_type TEXT NOT NULL DEFAULT '';
-- The result of the last attempt.
ALTER TABLE deliveries ADD COLUMN response_status INTEGER;
ALTER TABLE deliveries ADD COLUMN error_kind TEXT;
ALTER TABLE deliveries ADD COLUMN duration_ms BIGINT;
UPDATE deliveries SET event_type = coalesce(
    (SELECT event_type FROM events WHERE events.key = deliveries.event_key), '');
UPDATE deliveries
   SET (response_status, error_kind, duration_ms) =
       (SELECT response_status, error_kind, duration_ms FROM attempts
         WHERE delivery_id = deliveries.id ORDER BY created_at DESC, id DESC LIMIT 1)
 WHERE attempts > 0;
CREATE INDEX deliveries_by_organization
    ON deliveries (organization_id, event_type, state, created_at DESC, id DESC);
