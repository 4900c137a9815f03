ALTER TABLE replays ADD COLUMN unconfirmed BLOB;
