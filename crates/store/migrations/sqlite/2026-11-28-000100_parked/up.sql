-- What was put off for want of room says so: whatever it waits for, a delivery that has failed before
-- looks the same as one that waits for its schedule, and only the first may be called back.
ALTER TABLE deliveries ADD COLUMN is_parked BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE deliveries SET is_parked = TRUE
 WHERE state = 'pending' AND due > created_at AND attempts = 0 AND generation = 0;
DROP INDEX deliveries_put_off;
CREATE INDEX deliveries_parked ON deliveries (subscription_id, due) WHERE is_parked AND due IS NOT NULL;
