-- Microseconds since 1970, like all times.
ALTER TABLE api_keys ADD COLUMN expires_at BIGINT;
-- To the minute.
ALTER TABLE api_keys ADD COLUMN last_used_at BIGINT;
