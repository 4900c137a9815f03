-- The request as it was sent and the head of its response: NULL for attempts from before, and where nothing was sent or
-- received. `HeaderLog` and `PhaseTimes` in crates/core/src/http_log.rs define the texts. Masked values are not stored.
ALTER TABLE attempts ADD COLUMN request_headers TEXT;
ALTER TABLE attempts ADD COLUMN response_headers TEXT;
ALTER TABLE attempts ADD COLUMN remote_address TEXT;
ALTER TABLE attempts ADD COLUMN timings TEXT;
