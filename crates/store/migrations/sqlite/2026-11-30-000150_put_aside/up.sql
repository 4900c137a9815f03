-- Deliveries that were put aside because no process could handle them, with the reason. A row is there from the
-- moment its delivery ends as poison until the delivery is started again, the retention forgets it or an operator
-- drops the row.
CREATE TABLE put_aside (
    delivery_id BLOB PRIMARY KEY,
    reason TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX put_aside_by_age ON put_aside (at, delivery_id);

-- Dead letters are events alone from now on. A letter of a delivery that was started again since, or that the
-- retention has forgotten, is out of date.
INSERT INTO put_aside (delivery_id, reason, at)
SELECT l.body, l.reason, max(l.created_at)
  FROM dead_letters l JOIN deliveries d ON d.id = l.body
 WHERE l.queue = 'deliveries' AND d.state = 'exhausted' AND d.gave_up = 'poison'
 GROUP BY l.body;
DELETE FROM dead_letters WHERE queue = 'deliveries';
