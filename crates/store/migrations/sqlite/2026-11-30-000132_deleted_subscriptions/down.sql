DROP INDEX subscriptions_deleted;
