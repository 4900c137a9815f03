-- When the newest attempt that is counted began: so the last success of a subscription is found
-- without looking through its log. Of what was counted before, the day is known and no more.
ALTER TABLE attempt_counts ADD COLUMN last_at BIGINT NOT NULL DEFAULT 0;
UPDATE attempt_counts SET last_at = (day + 1) * 86400000000 - 1;

-- Since when failures count against a subscription: it was made then, or switched on, or given
-- another URL.
ALTER TABLE subscriptions ADD COLUMN failures_from BIGINT NOT NULL DEFAULT 0;
UPDATE subscriptions SET failures_from = created_at;

-- Subscriptions that had an exhausted delivery, and their first failure with no success after it.
-- A success leaves its row, which is looked at when its time has come.
CREATE TABLE failing (
    subscription_id BIGINT PRIMARY KEY,
    since BIGINT NOT NULL
);
CREATE INDEX failing_by_age ON failing (since);

-- What operators have not been told yet: a row for each subscription that the system switched off.
CREATE TABLE operational_events (
    id UUID PRIMARY KEY,
    organization_id TEXT NOT NULL,
    subscription_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    reason TEXT NOT NULL,
    at BIGINT NOT NULL
);
