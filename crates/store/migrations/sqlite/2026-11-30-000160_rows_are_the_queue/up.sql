-- A due row is owed, and nothing else says so. A replay does not remember which messages may be lost.
ALTER TABLE replays DROP COLUMN unconfirmed;
UPDATE replays SET next_turn = NULL WHERE state <> 'running';
