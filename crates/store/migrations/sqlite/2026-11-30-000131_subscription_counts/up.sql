-- How many subscriptions an organization has, deleted ones apart: to count them reads all of them. Triggers keep it,
-- so that it is exact whichever version of a program writes.
CREATE TABLE subscription_counts (
    organization_id TEXT PRIMARY KEY,
    count BIGINT NOT NULL
);
INSERT INTO subscription_counts (organization_id, count)
SELECT organization_id, count(*) FROM subscriptions WHERE deleted_at IS NULL GROUP BY organization_id;

CREATE TRIGGER subscription_made AFTER INSERT ON subscriptions WHEN NEW.deleted_at IS NULL
BEGIN
    INSERT INTO subscription_counts (organization_id, count) VALUES (NEW.organization_id, 1)
    ON CONFLICT (organization_id) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER subscription_deleted AFTER UPDATE OF deleted_at ON subscriptions
WHEN OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL
BEGIN
    UPDATE subscription_counts SET count = count - 1 WHERE organization_id = NEW.organization_id;
END;
