ALTER TABLE replays ADD COLUMN unconfirmed BYTEA;
ALTER TABLE deliveries ADD COLUMN republished INTEGER NOT NULL DEFAULT 0, ADD COLUMN republish_after BIGINT;
CREATE INDEX deliveries_overdue ON deliveries (coalesce(republish_after, due)) WHERE due IS NOT NULL;
