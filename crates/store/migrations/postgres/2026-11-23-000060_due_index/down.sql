DROP INDEX deliveries_overdue;
CREATE INDEX deliveries_overdue ON deliveries (coalesce(republish_after, due)) WHERE state = 'pending';
