-- `deliveries`: it restarts deliveries, or brings them forward. `missing`: it makes deliveries of events that have none.
ALTER TABLE replays ADD COLUMN kind TEXT NOT NULL DEFAULT 'deliveries';
-- The filter of the request, as JSON; NULL in rows of the version before, which have it in columns. `wanted` is 'filter' then:
-- a dispatcher of that version cannot read such a row, so it takes no step of it. A `subscription_id` of 0 stands for all
-- subscriptions of the organization.
ALTER TABLE replays ADD COLUMN filter TEXT;
CREATE INDEX replays_by_organization ON replays (organization_id, created_at DESC, id DESC);
CREATE INDEX replays_by_subscription ON replays (organization_id, subscription_id, created_at DESC, id DESC);
