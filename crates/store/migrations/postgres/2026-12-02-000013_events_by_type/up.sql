CREATE INDEX CONCURRENTLY IF NOT EXISTS events_by_type
    ON events (organization_id, event_type, received_at DESC, key DESC);
