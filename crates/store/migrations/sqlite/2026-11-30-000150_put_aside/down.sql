INSERT INTO dead_letters (queue, reason, body, created_at)
SELECT 'deliveries', reason, delivery_id, at FROM put_aside ORDER BY at, delivery_id;
DROP TABLE put_aside;
