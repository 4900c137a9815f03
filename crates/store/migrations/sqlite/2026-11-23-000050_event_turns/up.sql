-- When it is an event's turn among those of its organization, where that was decided.
ALTER TABLE event_queue ADD COLUMN turn BIGINT;
