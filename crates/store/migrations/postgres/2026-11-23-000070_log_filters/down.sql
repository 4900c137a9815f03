DROP INDEX attempts_failed_of_subscription;
DROP INDEX attempts_failed_of_organization;
DROP INDEX attempts_by_type;
