//! SQL of the current numbers for PostgreSQL.

/// The pending rows `d` of a subscription `s`: one index search, whatever the statistics say.
pub(crate) const OWED: &str = "CROSS JOIN LATERAL (
     SELECT due, backlog, origin, activation, event_key FROM deliveries
      WHERE subscription_id = s.id AND due IS NOT NULL ORDER BY due LIMIT 10000) d";
