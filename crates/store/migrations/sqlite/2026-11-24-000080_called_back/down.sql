DROP INDEX deliveries_put_off;
