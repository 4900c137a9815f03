-- Backlog: due deliveries that wait for their subscription's turn. `backlog` is the class, 1 live and 2 replay; the mark
-- never changes `due`. Looks pass over these rows, and their subscription's owner reads them in order.
ALTER TABLE deliveries ADD COLUMN backlog SMALLINT;
DROP INDEX deliveries_due;
CREATE INDEX deliveries_due ON deliveries (partition, due) WHERE due IS NOT NULL AND backlog IS NULL;
CREATE INDEX deliveries_backlog ON deliveries (partition, subscription_id, backlog, due, id)
    WHERE due IS NOT NULL AND backlog IS NOT NULL;
UPDATE deliveries SET backlog = 1, due = min(due, unixepoch() * 1000000) WHERE is_parked AND due IS NOT NULL;
DROP INDEX deliveries_parked;
ALTER TABLE deliveries DROP COLUMN is_parked;

-- Subscriptions whose circuit breaker is not closed. A row is written when it opens and when its wait grows, and removed
-- when it closes, so that the next start goes on at the same pace.
CREATE TABLE circuit_breakers (
    subscription_id BIGINT PRIMARY KEY,
    opened_at BIGINT NOT NULL,
    -- Between two probes.
    wait_seconds INTEGER NOT NULL
);
