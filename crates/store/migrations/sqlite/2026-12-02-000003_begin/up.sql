-- What customers note about a subscription for themselves. `metadata` is a JSON object of texts.
ALTER TABLE subscriptions ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE subscriptions ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';

-- The answer of a request with an `Idempotency-Key`, sealed under a master key. Its `answer` is '' then. A row of an earlier
-- version has its answer in `answer`, without any secret.
ALTER TABLE idempotent_requests ADD COLUMN sealed_answer BLOB;
