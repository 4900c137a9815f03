-- A deleted subscription keeps its row, for its id is never used again and its deliveries belong to it. Its URL goes at
-- once, and its name with the events that tell of it.
UPDATE subscriptions SET url = '' WHERE deleted_at IS NOT NULL;
CREATE INDEX subscriptions_deleted ON subscriptions (deleted_at) WHERE deleted_at IS NOT NULL AND name <> '';
