CREATE INDEX CONCURRENTLY IF NOT EXISTS events_by_workflow
    ON events (organization_id, workflow_id, received_at DESC, key DESC) WHERE workflow_id IS NOT NULL;
