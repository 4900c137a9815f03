DROP INDEX deliveries_parked;
CREATE INDEX deliveries_put_off ON deliveries (subscription_id, due) WHERE due > created_at AND attempts = 0;
ALTER TABLE deliveries DROP COLUMN is_parked;
