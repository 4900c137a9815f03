DROP TRIGGER subscription_made;
DROP TRIGGER subscription_deleted;
DROP TABLE subscription_counts;
