-- A delivery that is started again goes on counting its attempts, and begins the retry schedule
-- anew: from these columns follows which attempt of the present run one is, and who began the run.
ALTER TABLE deliveries ADD COLUMN attempts_before INTEGER NOT NULL DEFAULT 0;
ALTER TABLE deliveries ADD COLUMN cause TEXT NOT NULL DEFAULT 'first';

-- A replay starts deliveries of one subscription again, some at a time, in the order in which they
-- were made.
CREATE TABLE replays (
    id UUID PRIMARY KEY,
    organization_id TEXT NOT NULL,
    subscription_id BIGINT NOT NULL,
    -- What was asked for.
    wanted TEXT NOT NULL,
    event_types TEXT,
    since BIGINT,
    until BIGINT,
    -- How far it is.
    expected BIGINT NOT NULL,
    replayed BIGINT NOT NULL,
    cursor_at BIGINT,
    cursor_id UUID,
    -- The ids of those that were started and whose messages are not known to be handed on.
    unconfirmed BYTEA,
    -- Whoever takes a turn takes the next number, and until when nobody else will; none when there
    -- is nothing more to do.
    turn BIGINT NOT NULL,
    next_turn BIGINT,
    state TEXT NOT NULL,
    reason TEXT,
    created_at BIGINT NOT NULL,
    finished_at BIGINT
);
CREATE INDEX replays_by_turn ON replays (next_turn) WHERE next_turn IS NOT NULL;
CREATE INDEX replays_running ON replays (organization_id) WHERE state = 'running';
