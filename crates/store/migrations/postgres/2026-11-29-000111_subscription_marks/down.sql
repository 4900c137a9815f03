DROP TABLE subscription_marks;
