-- What was put off before its first attempt, by subscription: it is called back when the receiver is
-- well again, however much is put off of others.
CREATE INDEX deliveries_put_off ON deliveries (subscription_id, due) WHERE due IS NOT NULL AND attempts = 0;
