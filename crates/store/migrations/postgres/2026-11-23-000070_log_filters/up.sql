-- Pages of one type and of what failed, however rare it is: without these, all that is passed over
-- would be read.
CREATE INDEX attempts_by_type ON attempts (organization_id, event_type, created_at DESC, id DESC);
CREATE INDEX attempts_failed_of_organization ON attempts (organization_id, created_at DESC, id DESC)
    WHERE status = 'failed';
CREATE INDEX attempts_failed_of_subscription ON attempts (subscription_id, created_at DESC, id DESC)
    WHERE status = 'failed';
