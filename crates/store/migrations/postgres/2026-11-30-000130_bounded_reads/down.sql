DROP INDEX deliveries_by_event;
CREATE INDEX deliveries_by_event ON deliveries (event_key);
DROP INDEX attempts_by_delivery;
CREATE INDEX attempts_by_delivery ON attempts (delivery_id);
