-- A due row is owed, and nothing else says so. A delivery in hand has no lease, and no count of how often it was taken:
-- the memory of the one process that delivers says what is in hand. A replay does not remember which deliveries may not
-- have been handed on.
DROP INDEX deliveries_visible;
ALTER TABLE deliveries DROP COLUMN visible_at;
ALTER TABLE deliveries DROP COLUMN takes;
ALTER TABLE replays DROP COLUMN unconfirmed;
UPDATE replays SET next_turn = NULL WHERE state <> 'running';
