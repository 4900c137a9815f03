-- Only of what was put off: an entry for each delivery, made with it and removed with its first
-- attempt, cost every delivery as much as one that is put off.
DROP INDEX deliveries_put_off;
CREATE INDEX deliveries_put_off ON deliveries (subscription_id, due) WHERE due > created_at AND attempts = 0;
