-- Times are microseconds since 1970. Ids of events, deliveries and attempts are derived (UUIDv5),
-- so their primary keys are what makes a repeat harmless.

CREATE TABLE organizations (
    id TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_keys (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hash BYTEA NOT NULL UNIQUE,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL,
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE api_key_organizations (
    key_id BIGINT NOT NULL REFERENCES api_keys (id),
    organization_id TEXT NOT NULL REFERENCES organizations (id),
    PRIMARY KEY (key_id, organization_id)
);

-- One row, locked by whoever changes a subscription: so versions become visible in their order,
-- and an index that has seen version n has seen all before it.
CREATE TABLE subscription_version (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    value BIGINT NOT NULL
);
INSERT INTO subscription_version (id, value) VALUES (1, 0);

CREATE TABLE subscriptions (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organization_id TEXT NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    events TEXT NOT NULL,
    secret BYTEA,
    headers BYTEA NOT NULL,
    is_active BOOLEAN NOT NULL,
    disabled_reason TEXT,
    -- How often it was switched off: deliveries of an earlier activation are void.
    activation BIGINT NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- A deleted subscription stays as a row: its logs do too, and its id is never used again.
    deleted_at BIGINT
);
CREATE INDEX subscriptions_by_organization ON subscriptions (organization_id, id) WHERE deleted_at IS NULL;
CREATE INDEX subscriptions_by_version ON subscriptions (version);

CREATE TABLE events (
    key UUID PRIMARY KEY,
    organization_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    event_type TEXT NOT NULL,
    body BYTEA NOT NULL,
    traceparent TEXT,
    received_at BIGINT NOT NULL
);
CREATE INDEX events_by_age ON events (received_at);

CREATE TABLE deliveries (
    id UUID PRIMARY KEY,
    organization_id TEXT NOT NULL,
    subscription_id BIGINT NOT NULL,
    event_key UUID NOT NULL,
    origin TEXT NOT NULL,
    activation BIGINT NOT NULL,
    generation INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    state TEXT NOT NULL,
    due BIGINT,
    finished_at BIGINT,
    gave_up TEXT,
    created_at BIGINT NOT NULL,
    -- How often the reconciler has handed the present attempt on again, and from when on it counts
    -- as overdue once more.
    republished INTEGER NOT NULL DEFAULT 0,
    republish_after BIGINT
) WITH (fillfactor = 80);
CREATE INDEX deliveries_by_event ON deliveries (event_key);
CREATE INDEX deliveries_by_subscription ON deliveries (subscription_id, created_at DESC, id DESC);
CREATE INDEX deliveries_overdue ON deliveries (coalesce(republish_after, due)) WHERE state = 'pending';

-- By day, so that retention drops whole tables. A row is written only for a delivery that moved,
-- which is what keeps it unique.
CREATE TABLE attempts (
    id UUID NOT NULL,
    delivery_id UUID NOT NULL,
    organization_id TEXT NOT NULL,
    subscription_id BIGINT NOT NULL,
    event_key UUID NOT NULL,
    event_type TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    trigger TEXT NOT NULL,
    status TEXT NOT NULL,
    url TEXT NOT NULL,
    response_status INTEGER,
    response_body TEXT,
    error_kind TEXT,
    error_message TEXT,
    duration_ms BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    next_attempt_at BIGINT,
    PRIMARY KEY (created_at, id)
) PARTITION BY RANGE (created_at);
CREATE TABLE attempts_other PARTITION OF attempts DEFAULT;
CREATE INDEX attempts_by_organization ON attempts (organization_id, created_at DESC, id DESC);
CREATE INDEX attempts_by_subscription ON attempts (subscription_id, created_at DESC, id DESC);
CREATE INDEX attempts_by_delivery ON attempts (delivery_id);

-- Totals of pages come from here and not from counting the log. Each writer has its own rows, so
-- that writers do not wait for one another.
CREATE TABLE attempt_counts (
    organization_id TEXT NOT NULL,
    subscription_id BIGINT NOT NULL,
    event_type TEXT NOT NULL,
    status TEXT NOT NULL,
    day BIGINT NOT NULL,
    writer INTEGER NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (organization_id, subscription_id, event_type, status, day, writer)
);
CREATE INDEX attempt_counts_by_day ON attempt_counts (day);
