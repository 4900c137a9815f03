-- Secrets and the values of headers are sealed under a master key; the names of headers are not.
ALTER TABLE subscriptions ADD COLUMN header_names TEXT NOT NULL DEFAULT '[]';
-- After a rotation, the secret before and until when it signs, too (microseconds since 1970).
ALTER TABLE subscriptions ADD COLUMN previous_secret BYTEA;
ALTER TABLE subscriptions ADD COLUMN previous_until BIGINT;
CREATE INDEX subscriptions_in_rotation ON subscriptions (previous_until) WHERE previous_until IS NOT NULL;

-- The keys that values may be sealed under, each with something that it alone opens.
CREATE TABLE master_keys (
    id TEXT PRIMARY KEY,
    proof BYTEA NOT NULL
);

-- A migration has no key. What lay open so far gets a zero before it and waits for
-- `hookline secrets rekey`; no service starts until then, because nobody has the key ''.
UPDATE subscriptions SET
    header_names = coalesce(
        (SELECT jsonb_agg(pair -> 0) FROM jsonb_array_elements(convert_from(headers, 'UTF8')::jsonb) pair),
        '[]')::text,
    headers = CASE WHEN headers = '[]' THEN ''::bytea ELSE '\x00'::bytea || headers END,
    secret = '\x00'::bytea || secret;
INSERT INTO master_keys (id, proof)
SELECT '', '' WHERE EXISTS (SELECT FROM subscriptions WHERE secret IS NOT NULL OR headers <> '');
