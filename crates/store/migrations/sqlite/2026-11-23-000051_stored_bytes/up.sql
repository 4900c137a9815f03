-- How many bytes of events are kept of each organization: the sum over its rows, of which there are
-- a few, so that writers seldom wait for one another.
CREATE TABLE stored_bytes (
    organization_id TEXT NOT NULL,
    part INTEGER NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (organization_id, part)
);
INSERT INTO stored_bytes (organization_id, part, bytes)
SELECT organization_id, 0, CAST(sum(length(body)) AS BIGINT) FROM events GROUP BY organization_id;
