//! How often one origin is called. Nobody proves that a target is theirs, so nobody may point our
//! whole strength at it, with one subscription or with a thousand.
//!
//! What is too much comes back later, and is spread over the time that its origin needs for it:
//! otherwise all of it would come back each second, and most in vain.

use std::time::{Duration, Instant};

use hookline_core::rate::{Rate, Rates};
use hookline_core::target::TargetUrl;
use url::{Origin, Url};

/// What is put off comes back after a second at the earliest: delays are whole seconds.
const SHORTEST: Duration = Duration::from_secs(1);

/// And after a minute at the latest: by then its origin may have moved.
const LONGEST: Duration = Duration::from_secs(60);

/// The requests that began lately, by origin.
#[derive(Debug)]
pub(crate) struct Origins {
    begun: Rates<Origin>,
    coming_back: Rates<Origin>,
}

impl Origins {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            begun: Rates::new(rate),
            coming_back: Rates::new(rate),
        }
    }

    /// Begins a request to the origin of `url`, if there is room for one now.
    ///
    /// # Errors
    /// For how long it is put off, where there is none; in whole seconds.
    pub(crate) fn begin(&mut self, url: &TargetUrl, now: Instant) -> Result<(), Duration> {
        // What is no URL is not called either: the attempt says so.
        let Ok(url) = Url::parse(url.as_str()) else {
            return Ok(());
        };
        let origin = url.origin();
        if self.begun.take(origin.clone(), now).is_ok() {
            return Ok(());
        }
        let back = self.coming_back.book(origin, now + SHORTEST);
        let wait = back.saturating_duration_since(now).min(LONGEST);
        Err(Duration::from_secs(wait.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn origins(count: u32) -> Origins {
        Origins::new(Rate::new(count, SECOND))
    }

    fn url(text: &str) -> TargetUrl {
        TargetUrl::from_store(text)
    }

    #[test]
    fn an_origin_has_its_rate_whatever_the_path_and_costs_no_other() {
        let (mut origins, now) = (origins(2), Instant::now());
        assert!(origins.begin(&url("https://a.example/1"), now).is_ok());
        assert!(
            origins
                .begin(&url("HTTPS://A.example:443/2?x"), now)
                .is_ok()
        );
        assert_eq!(origins.begin(&url("https://a.example/3"), now), Err(SECOND));
        for other in [
            "https://b.example/",
            "https://a.example:8443/",
            "http://a.example/",
        ] {
            assert!(origins.begin(&url(other), now).is_ok(), "{other}");
        }
        assert!(
            origins
                .begin(&url("https://a.example/"), now + SECOND / 2)
                .is_ok()
        );
    }

    #[test]
    fn what_is_put_off_comes_back_as_fast_as_its_origin_takes_it() {
        let (mut origins, now) = (origins(10), Instant::now());
        let target = url("https://a.example/");
        let waits: Vec<u64> = (0..1_000)
            .filter_map(|_| origins.begin(&target, now).err())
            .map(|wait| wait.as_secs())
            .collect();
        assert_eq!(waits.len(), 990);
        for second in 1..60 {
            let coming = waits.iter().filter(|wait| **wait == second).count();
            assert_eq!(coming, 10, "in second {second}");
        }
        assert_eq!(waits.iter().max(), Some(&60));
    }

    #[test]
    fn a_backlog_is_worked_off_at_the_rate() {
        let (mut origins, start) = (origins(10), Instant::now());
        let target = url("https://a.example/");
        let mut owed = vec![start; 300];
        let mut tries = 0;
        let mut now = start;
        while !owed.is_empty() {
            assert!(now < start + 60 * SECOND, "{} left", owed.len());
            for due in &mut owed {
                if *due <= now {
                    tries += 1;
                    match origins.begin(&target, now) {
                        Ok(()) => *due = start + 3_600 * SECOND,
                        Err(wait) => *due = now + wait,
                    }
                }
            }
            owed.retain(|due| *due < start + 3_600 * SECOND);
            now += SECOND;
        }
        let took = now.duration_since(start).as_secs();
        assert!((29..=32).contains(&took), "{took} s");
        assert!(tries <= 700, "{tries} tries for 300");
    }
}
