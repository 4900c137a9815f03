//! The note of a partition that was handed over: its subscriptions with requests of the earlier owner in flight. The
//! successor starts nothing for them until the note is emptied, or their time has passed.

use hookline_core::ids::SubscriptionId;
use hookline_core::timestamp::Timestamp;
use serde::{Deserialize, Serialize};

/// A subscription with a request of an earlier owner that is in flight until `until` at the latest, in service time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockedSubscription {
    pub(crate) subscription: SubscriptionId,
    pub(crate) until: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    subscription: i64,
    /// Microseconds since 1970.
    until: i64,
}

/// Empty where nothing is in flight.
pub(super) fn write(in_flight: &[(SubscriptionId, Timestamp)]) -> String {
    if in_flight.is_empty() {
        return String::new();
    }
    let entry = |(subscription, until): &(SubscriptionId, Timestamp)| Entry {
        subscription: subscription.0,
        until: until.unix_micros(),
    };
    let entries: Vec<_> = in_flight.iter().map(entry).collect();
    serde_json::to_string(&entries).unwrap_or_default()
}

/// A note in another form blocks nothing. An attempt may then be made twice at once, and none is lost.
pub(super) fn read(note: &str) -> Vec<BlockedSubscription> {
    if note.is_empty() {
        return Vec::new();
    }
    let entries: Vec<Entry> = serde_json::from_str(note).unwrap_or_else(|why| {
        tracing::warn!(error = %why, "ignored unreadable note of partition");
        Vec::new()
    });
    let blocked = |entry: Entry| BlockedSubscription {
        subscription: SubscriptionId(entry.subscription),
        until: Timestamp::from_unix_micros(entry.until),
    };
    entries.into_iter().map(blocked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_names_the_requests_in_flight() {
        let until = Timestamp::from_unix_micros(1_766_313_000_000_000);
        let note = write(&[(SubscriptionId(7), until)]);
        assert_eq!(note, r#"[{"subscription":7,"until":1766313000000000}]"#);
        let subscription = SubscriptionId(7);
        assert_eq!(
            read(&note),
            [BlockedSubscription {
                subscription,
                until
            }]
        );
        assert_eq!(write(&[]), "");
        assert_eq!(read("of another version"), []);
    }
}
