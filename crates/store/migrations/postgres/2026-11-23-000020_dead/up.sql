-- Messages that are handled on trial, because processes may have died of them. The row is there
-- while a trial lasts; one that stays is a charge.
CREATE TABLE trials (
    key UUID PRIMARY KEY,
    charges INTEGER NOT NULL,
    begun_at BIGINT NOT NULL
);
