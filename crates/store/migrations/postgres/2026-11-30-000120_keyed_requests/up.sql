-- Requests with an idempotency key, for 24 hours. Both digests are made with the API key, which is not
-- in the database. A row without an answer belongs to the request that has its claim, until then.
CREATE TABLE keyed_requests (
    id BYTEA PRIMARY KEY,
    fingerprint BYTEA NOT NULL,
    claim BIGINT NOT NULL,
    claimed_until BIGINT NOT NULL,
    answer TEXT,
    created_at BIGINT NOT NULL
);
CREATE INDEX keyed_requests_created_at ON keyed_requests (created_at);
