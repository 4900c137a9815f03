-- An event's deliveries, and a delivery's attempts, are read page by page: without the order in the index, each page
-- would read and sort all of them.
DROP INDEX deliveries_by_event;
CREATE INDEX deliveries_by_event ON deliveries (event_key, subscription_id);
DROP INDEX attempts_by_delivery;
CREATE INDEX attempts_by_delivery ON attempts (delivery_id, created_at DESC, id DESC);
