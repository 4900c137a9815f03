-- What is sealed cannot be opened here: secrets and headers are lost.
UPDATE subscriptions SET secret = NULL, headers = CAST('[]' AS BLOB);
DROP TABLE master_keys;
DROP INDEX subscriptions_in_rotation;
ALTER TABLE subscriptions DROP COLUMN previous_until;
ALTER TABLE subscriptions DROP COLUMN previous_secret;
ALTER TABLE subscriptions DROP COLUMN header_names;
