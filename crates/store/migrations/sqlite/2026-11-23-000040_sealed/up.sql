-- Secrets and the values of headers are sealed under a master key; the names of headers are not.
ALTER TABLE subscriptions ADD COLUMN header_names TEXT NOT NULL DEFAULT '[]';
-- After a rotation, the secret before and until when it signs, too (microseconds since 1970).
ALTER TABLE subscriptions ADD COLUMN previous_secret BLOB;
ALTER TABLE subscriptions ADD COLUMN previous_until BIGINT;
CREATE INDEX subscriptions_in_rotation ON subscriptions (previous_until) WHERE previous_until IS NOT NULL;

-- The keys that values may be sealed under, each with something that it alone opens.
CREATE TABLE master_keys (
    id TEXT PRIMARY KEY,
    proof BLOB NOT NULL
);

-- A migration has no key. What lay open so far gets a zero before it and waits for
-- `hookline secrets rekey`; nothing starts until then, because nobody has the key ''.
UPDATE subscriptions SET
    header_names = (SELECT json_group_array(json_extract(value, '$[0]')) FROM json_each(CAST(headers AS TEXT))),
    headers = CASE WHEN CAST(headers AS TEXT) = '[]' THEN x'' ELSE CAST(x'00' || headers AS BLOB) END,
    secret = CAST(x'00' || secret AS BLOB);
INSERT INTO master_keys (id, proof)
SELECT '', x'' WHERE EXISTS (SELECT 1 FROM subscriptions WHERE secret IS NOT NULL OR length(headers) > 0);
