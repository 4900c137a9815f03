CREATE INDEX CONCURRENTLY IF NOT EXISTS deliveries_by_organization
    ON deliveries (organization_id, event_type, state, created_at DESC, id DESC);
