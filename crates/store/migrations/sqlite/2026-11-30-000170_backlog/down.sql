DROP TABLE circuit_breakers;
ALTER TABLE deliveries ADD COLUMN is_parked BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX deliveries_parked ON deliveries (subscription_id, due) WHERE is_parked AND due IS NOT NULL;
DROP INDEX deliveries_backlog;
DROP INDEX deliveries_due;
ALTER TABLE deliveries DROP COLUMN backlog;
CREATE INDEX deliveries_due ON deliveries (partition, due) WHERE due IS NOT NULL;
