ALTER TABLE replays ADD COLUMN unconfirmed BYTEA;
