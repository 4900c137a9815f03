DROP TABLE operational_events;
DROP TABLE failing;
ALTER TABLE subscriptions DROP COLUMN failures_from;
ALTER TABLE attempt_counts DROP COLUMN last_at;
