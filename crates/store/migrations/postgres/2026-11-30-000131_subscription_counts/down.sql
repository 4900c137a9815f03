DROP TRIGGER subscription_made ON subscriptions;
DROP TRIGGER subscription_deleted ON subscriptions;
DROP FUNCTION count_subscription();
DROP TABLE subscription_counts;
