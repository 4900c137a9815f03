DROP FUNCTION drop_attempt_day(bigint);
DROP FUNCTION prepare_attempt_days(bigint, bigint);
DROP TABLE retention;
