//! The event of every workload, about 400 bytes, and its fields that a receiver reads.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;

/// The length of an event. A number with many digits makes it a little longer.
const BYTES: usize = 400;

/// A moment in Unix microseconds. All processes of a run share one clock.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Moment(pub u64);

impl Moment {
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self(since.map_or(0, |since| {
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        }))
    }

    pub fn micros_since(self, earlier: Self) -> u32 {
        u32::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(u32::MAX)
    }

    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.0.saturating_sub(earlier.0) as f64 / 1e6
    }
}

/// Event `number` of an organization. It contains its time of publication.
pub fn event(organization: &str, event_type: &str, number: u64, sent: Moment) -> String {
    let mut event = format!(
        r#"{{"event_id":"evt_{number}","event_type":"{event_type}","workflow_id":"wf_1","organization_id":"{organization}","timestamp":"2025-12-21T10:30:00Z","data":{{"n":{number},"sent":{},"step":"charge","amount":12.5,"note":""#,
        sent.0,
    );
    const END: &str = "\"}}";
    while event.len() < BYTES - END.len() {
        event.push('x');
    }
    event + END
}

/// The number of an event, and its time of publication.
pub fn read(body: &[u8]) -> anyhow::Result<(u64, Moment)> {
    let field = |name: &str| -> Option<u64> {
        let at = body
            .windows(name.len())
            .position(|window| window == name.as_bytes())?;
        let rest = &body[at + name.len()..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
    };
    let number = field(r#"{"n":"#).context("an event without a number")?;
    let sent = field(r#","sent":"#).context("an event without its time")?;
    Ok((number, Moment(sent)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_400_bytes_says_its_number_and_its_time() {
        let event = event(
            "org_1",
            "workflow.started",
            17,
            Moment(1_766_313_000_000_000),
        );
        assert_eq!(event.len(), BYTES);
        assert_eq!(
            read(event.as_bytes()).unwrap(),
            (17, Moment(1_766_313_000_000_000))
        );
        assert!(serde_json::from_str::<serde_json::Value>(&event).is_ok());
    }
}
