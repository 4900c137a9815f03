-- Only a delivery that is pending is due. As a predicate, `state = 'pending'` would be taken up by
-- every statement that names a delivery by its id and asks for that, too: with statistics from
-- quiet times the planner prefers to read all that is pending, which in a backlog is everything.
DROP INDEX deliveries_overdue;
CREATE INDEX deliveries_overdue ON deliveries (coalesce(republish_after, due)) WHERE due IS NOT NULL;
