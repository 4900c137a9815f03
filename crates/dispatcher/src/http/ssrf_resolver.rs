//! SSRF protection: resolves names, and returns only addresses that may be dialled. Exactly the checked address is
//! dialled, even if the name has another one a moment later.
//!
//! Both address families are resolved concurrently, and the first one with an address is used (RFC 8305, 3). Addresses
//! that arrive later are checked as well, before any of them is dialled.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::target::TargetRules;
use moka::future::Cache;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::http::dns::{DnsResolver, Family, Found};

/// The most names in the cache.
const NAMES: u64 = 10_000;

/// The longest time in the cache, whatever the time to live: a receiver that moves is soon found.
const LONGEST: Duration = Duration::from_secs(30);

/// The time for which a name without addresses is cached.
const NOWHERE: Duration = Duration::from_secs(2);

/// The time for which IPv4 addresses wait for IPv6 addresses, which are preferred (RFC 8305, 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// The addresses of names that may be dialled.
#[derive(Clone)]
pub(crate) struct AllowedAddresses {
    rules: TargetRules,
    names: Arc<DnsResolver>,
    /// Concurrent requests to the same name share one query.
    asked: Cache<String, watch::Receiver<Heard>>,
}

/// The one error for names that do not resolve and for names that resolve to an internal address. With two errors, a
/// customer could tell internal names from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name does not resolve to an address that may be called")]
pub(crate) struct NotAllowed;

impl AllowedAddresses {
    pub(crate) fn new(rules: TargetRules, names: DnsResolver) -> Self {
        Self {
            rules,
            names: Arc::new(names),
            asked: Cache::builder()
                .max_capacity(NAMES)
                .time_to_live(LONGEST)
                .build(),
        }
    }

    /// The addresses of a host, which is a name or an address itself.
    pub(crate) async fn of(&self, host: &str) -> Addresses {
        let heard = match host.parse() {
            Ok(address) => watch::channel(Heard::literal(address)).1,
            Err(_) => self.ask(host).await,
        };
        Addresses {
            rules: self.rules.clone(),
            heard,
            given: [0, 0],
            last: None,
        }
    }

    async fn ask(&self, name: &str) -> watch::Receiver<Heard> {
        let entry = self.asked.entry_by_ref(name);
        let question = async { ask(Arc::clone(&self.names), name.to_owned()) };
        let is_over = |heard: &watch::Receiver<Heard>| heard.borrow().is_over(Instant::now());
        entry
            .or_insert_with_if(question, is_over)
            .await
            .into_value()
    }
}

/// Queries both families. The task ends with the patience of [`DnsResolver`] at the latest.
fn ask(names: Arc<DnsResolver>, name: String) -> watch::Receiver<Heard> {
    let (saying, heard) = watch::channel(Heard::default());
    tokio::spawn(async move {
        let ask = async |family| {
            let found = names.ask(&name, family).await;
            let said = found.map_or(Said::Nothing, Said::These);
            saying.send_modify(|heard| heard.hear(family, said, Instant::now()));
        };
        futures::future::join(ask(Family::V4), ask(Family::V6)).await;
    });
    heard
}

#[derive(Debug, Clone, Default)]
enum Said {
    #[default]
    NotYet,
    Nothing,
    These(Found),
}

/// The answers of the name servers about one name until now.
#[derive(Debug, Clone, Default)]
struct Heard {
    v4: Said,
    v6: Said,
    /// The time of the last answer.
    at: Option<Instant>,
}

impl Heard {
    fn literal(address: IpAddr) -> Self {
        let now = Instant::now();
        let mut heard = Self {
            v4: Said::Nothing,
            v6: Said::Nothing,
            at: None,
        };
        let family = match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        };
        let found = Found {
            addresses: [address].into(),
            until: now.into_std(),
        };
        heard.hear(family, Said::These(found), now);
        heard
    }

    fn hear(&mut self, family: Family, said: Said, now: Instant) {
        match family {
            Family::V4 => self.v4 = said,
            Family::V6 => self.v6 = said,
        }
        self.at = Some(now);
    }

    fn of(&self, family: Family) -> &[IpAddr] {
        let said = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        match said {
            Said::These(found) => &found.addresses,
            Said::NotYet | Said::Nothing => &[],
        }
    }

    fn all(&self) -> impl Iterator<Item = IpAddr> {
        self.of(Family::V4)
            .iter()
            .chain(self.of(Family::V6))
            .copied()
    }

    fn is_whole(&self) -> bool {
        !matches!(self.v4, Said::NotYet) && !matches!(self.v6, Said::NotYet)
    }

    /// Whether the name must be resolved again.
    fn is_over(&self, now: Instant) -> bool {
        let owner_stands_by = [&self.v4, &self.v6]
            .into_iter()
            .filter_map(|said| match said {
                Said::These(found) => Some(found.until),
                Said::NotYet | Said::Nothing => None,
            });
        match owner_stands_by.min() {
            Some(until) => until <= now.into_std(),
            None => self.is_whole() && self.at.is_none_or(|at| at + NOWHERE <= now),
        }
    }
}

/// The addresses of one host in the order in which they are dialled: the families alternate.
pub(crate) struct Addresses {
    rules: TargetRules,
    heard: watch::Receiver<Heard>,
    /// The number of IPv4 and of IPv6 addresses that were returned.
    given: [usize; 2],
    last: Option<Family>,
}

impl Addresses {
    /// The next address, once it is known; none when there are no more. Cancel safe.
    ///
    /// # Errors
    /// [`NotAllowed`], when there is no address, or as soon as any address may not be dialled. That address
    /// disqualifies the others: an owner that mixes them hopes to pass by chance.
    pub(crate) async fn next(&mut self) -> Result<Option<IpAddr>, NotAllowed> {
        loop {
            let heard = self.heard.borrow_and_update().clone();
            self.judge(&heard)?;
            let waits_until = self.waits_until(&heard).filter(|at| *at > Instant::now());
            if waits_until.is_none()
                && let Some(address) = self.pick(&heard)
            {
                return Ok(Some(address));
            }
            if heard.is_whole() {
                return match self.last {
                    Some(_) => Ok(None),
                    None => Err(NotAllowed),
                };
            }
            let change = self.heard.changed();
            match waits_until {
                None => change.await.map_err(|_| NotAllowed)?,
                Some(at) => tokio::select! {
                    changed = change => changed.map_err(|_| NotAllowed)?,
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    /// Checks that all addresses known until now may be dialled.
    ///
    /// # Errors
    /// [`NotAllowed`], when an address may not.
    pub(crate) fn judge_all(&self) -> Result<(), NotAllowed> {
        self.judge(&self.heard.borrow())
    }

    fn judge(&self, heard: &Heard) -> Result<(), NotAllowed> {
        match heard.all().all(|address| self.rules.allow(address)) {
            true => Ok(()),
            false => Err(NotAllowed),
        }
    }

    /// The end of the time for which the first IPv4 address waits for an IPv6 one.
    fn waits_until(&self, heard: &Heard) -> Option<Instant> {
        let waits = self.last.is_none() && matches!(heard.v6, Said::NotYet);
        heard.at.filter(|_| waits).map(|at| at + RESOLUTION_DELAY)
    }

    fn pick(&mut self, heard: &Heard) -> Option<IpAddr> {
        let order = match self.last {
            Some(Family::V6) => [Family::V4, Family::V6],
            Some(Family::V4) | None => [Family::V6, Family::V4],
        };
        order.into_iter().find_map(|family| {
            let given = &mut self.given[usize::from(family == Family::V6)];
            let address = *heard.of(family).get(*given)?;
            *given += 1;
            self.last = Some(family);
            Some(address)
        })
    }
}

#[cfg(test)]
mod tests;
