-- Deliveries that were put aside because no process could handle them, with the reason. A row is there from the
-- moment its delivery ends as poison until the delivery is started again, the retention forgets it or an operator
-- drops the row.
CREATE TABLE put_aside (
    delivery_id UUID PRIMARY KEY,
    reason TEXT NOT NULL,
    at BIGINT NOT NULL
);
CREATE INDEX put_aside_by_age ON put_aside (at, delivery_id);
