DROP INDEX deliveries_due;
ALTER TABLE deliveries DROP COLUMN partition;
DROP TABLE dispatchers;
DROP TABLE partitions;
DROP TABLE partitioning;
