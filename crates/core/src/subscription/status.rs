//! Whether a subscription gets events, and why not.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscriptionStatus {
    Active,
    /// Switched off by the system for this reason, or by its owner.
    Inactive(Option<DisabledReason>),
}

/// The reason of the system for switching a subscription off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum DisabledReason {
    /// Its receiver answered 410.
    Gone,
    /// All attempts failed for the configured time.
    Failing,
}

impl DisabledReason {
    /// The name in answers and in the store.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    pub fn parse(name: &str) -> Option<Self> {
        name.parse().ok()
    }
}
