-- How many subscriptions an organization has, deleted ones apart: to count them reads all of them. Triggers keep it,
-- so that it is exact whichever version of a program writes. The lock keeps out changes between the count and them.
LOCK TABLE subscriptions IN SHARE ROW EXCLUSIVE MODE;
CREATE TABLE subscription_counts (
    organization_id TEXT PRIMARY KEY,
    count BIGINT NOT NULL
);
INSERT INTO subscription_counts (organization_id, count)
SELECT organization_id, count(*) FROM subscriptions WHERE deleted_at IS NULL GROUP BY organization_id;

CREATE FUNCTION count_subscription() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    INSERT INTO subscription_counts AS kept (organization_id, count)
    VALUES (NEW.organization_id, CASE TG_OP WHEN 'INSERT' THEN 1 ELSE -1 END)
    ON CONFLICT (organization_id) DO UPDATE SET count = kept.count + excluded.count;
    RETURN NULL;
END
$body$;
CREATE TRIGGER subscription_made AFTER INSERT ON subscriptions
    FOR EACH ROW WHEN (NEW.deleted_at IS NULL) EXECUTE FUNCTION count_subscription();
CREATE TRIGGER subscription_deleted AFTER UPDATE OF deleted_at ON subscriptions
    FOR EACH ROW WHEN (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL) EXECUTE FUNCTION count_subscription();
