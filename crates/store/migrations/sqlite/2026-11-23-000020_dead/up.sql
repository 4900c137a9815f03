-- Messages that are handled on trial, because processes may have died of them. The row is there
-- while a trial lasts; one that stays is a charge.
CREATE TABLE trials (
    key BLOB PRIMARY KEY,
    charges INTEGER NOT NULL,
    begun_at BIGINT NOT NULL
);

-- What is put back keeps its publisher's trace.
ALTER TABLE dead_letters ADD COLUMN traceparent TEXT;
