ALTER TABLE replays ADD COLUMN unconfirmed BLOB;
ALTER TABLE deliveries ADD COLUMN visible_at BIGINT;
ALTER TABLE deliveries ADD COLUMN takes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX deliveries_visible ON deliveries (coalesce(visible_at, due)) WHERE state = 'pending';
