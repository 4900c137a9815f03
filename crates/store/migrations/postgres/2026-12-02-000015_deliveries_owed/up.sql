-- What a subscription is owed, the longest due first. `+ 0` keeps the planner from it for queries of due rows and of the
-- backlog: with statistics of quiet times it would sort all pending rows.
CREATE INDEX CONCURRENTLY IF NOT EXISTS deliveries_owed ON deliveries (subscription_id, due) WHERE due + 0 IS NOT NULL;
