DROP TABLE replays;
ALTER TABLE deliveries DROP COLUMN cause;
ALTER TABLE deliveries DROP COLUMN attempts_before;
