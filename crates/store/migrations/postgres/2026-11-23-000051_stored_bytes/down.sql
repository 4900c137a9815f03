DROP TABLE stored_bytes;
