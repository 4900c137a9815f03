//! SQL of the current numbers for SQLite.

/// The pending rows `d` of a subscription `s`. SQLite joins in the order of the text.
pub(crate) const OWED: &str = "CROSS JOIN deliveries d INDEXED BY deliveries_owed
     ON d.subscription_id = s.id AND d.due IS NOT NULL";
