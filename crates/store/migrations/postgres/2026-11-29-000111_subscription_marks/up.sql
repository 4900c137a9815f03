-- A version number that was lost with the database's last commits is given out again. The mark, a
-- random number, tells the two apart: an index that knows version n under another mark, or one that
-- is not here any more, loads all subscriptions anew. The last 1,000 versions have their mark.
CREATE TABLE subscription_marks (
    version BIGINT PRIMARY KEY,
    mark BIGINT NOT NULL
);
INSERT INTO subscription_marks (version, mark)
SELECT value, (random() * 9007199254740991)::bigint FROM subscription_version;
