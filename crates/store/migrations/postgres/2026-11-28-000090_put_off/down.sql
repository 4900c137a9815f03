DROP INDEX deliveries_put_off;
CREATE INDEX deliveries_put_off ON deliveries (subscription_id, due) WHERE due IS NOT NULL AND attempts = 0;
