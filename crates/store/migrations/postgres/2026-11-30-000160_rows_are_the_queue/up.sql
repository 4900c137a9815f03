-- A due row is owed, and nothing else says so. Nothing looks for deliveries whose messages were lost any more, and a
-- replay does not remember which messages may be.
DROP INDEX deliveries_overdue;
ALTER TABLE deliveries DROP COLUMN republished, DROP COLUMN republish_after;
ALTER TABLE replays DROP COLUMN unconfirmed;
UPDATE replays SET next_turn = NULL WHERE state <> 'running';
