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

use crate::http::dns::{AddressFamily, DnsResolver, ResolvedAddresses};

/// The most names in the cache.
const NAMES: u64 = 10_000;

/// The longest time in the cache, whatever the time to live: a receiver that moves is soon found.
const MAX_TTL: Duration = Duration::from_secs(30);

/// The time for which a name without addresses is cached.
const EMPTY_TTL: Duration = Duration::from_secs(2);

/// The time for which IPv4 addresses wait for IPv6 addresses, which are preferred (RFC 8305, 3).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// The addresses of names that may be dialled.
#[derive(Clone)]
pub(crate) struct AllowedAddresses {
    rules: TargetRules,
    resolver: Arc<DnsResolver>,
    /// Concurrent requests to the same name share one query.
    lookups: Cache<String, watch::Receiver<DnsAnswers>>,
}

/// The one error for names that do not resolve and for names that resolve to an internal address. With two errors, a
/// customer could tell internal names from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name does not resolve to an address that may be called")]
pub(crate) struct NotAllowed;

impl AllowedAddresses {
    pub(crate) fn new(rules: TargetRules, resolver: DnsResolver) -> Self {
        Self {
            rules,
            resolver: Arc::new(resolver),
            lookups: Cache::builder()
                .max_capacity(NAMES)
                .time_to_live(MAX_TTL)
                .build(),
        }
    }

    /// The addresses of a host, which is a name or an address itself.
    pub(crate) async fn of(&self, host: &str) -> Addresses {
        let literal = host.parse();
        let answers = match literal {
            Ok(address) => watch::channel(DnsAnswers::literal(address)).1,
            Err(_) => self.ask(host).await,
        };
        Addresses {
            rules: self.rules.clone(),
            is_resolved: literal.is_err(),
            answers,
            returned: [0, 0],
            last: None,
        }
    }

    async fn ask(&self, name: &str) -> watch::Receiver<DnsAnswers> {
        let entry = self.lookups.entry_by_ref(name);
        let lookup = async { start_lookup(Arc::clone(&self.resolver), name.to_owned()) };
        let is_expired =
            |answers: &watch::Receiver<DnsAnswers>| answers.borrow().is_expired(Instant::now());
        entry
            .or_insert_with_if(lookup, is_expired)
            .await
            .into_value()
    }
}

/// Queries both families. The task ends with the patience of [`DnsResolver`] at the latest.
fn start_lookup(resolver: Arc<DnsResolver>, name: String) -> watch::Receiver<DnsAnswers> {
    let (sender, answers) = watch::channel(DnsAnswers::default());
    tokio::spawn(async move {
        let ask = async |family| {
            let found = resolver.resolve(&name, family).await;
            let answer = found.map_or(LookupState::Empty, LookupState::Addresses);
            sender.send_modify(|answers| answers.set(family, answer, Instant::now()));
        };
        futures::future::join(ask(AddressFamily::V4), ask(AddressFamily::V6)).await;
    });
    answers
}

#[derive(Debug, Clone, Default)]
enum LookupState {
    #[default]
    Pending,
    Empty,
    Addresses(ResolvedAddresses),
}

/// The answers of the name servers about one name until now.
#[derive(Debug, Clone, Default)]
struct DnsAnswers {
    by_family: [LookupState; 2],
    /// The time of the last answer.
    at: Option<Instant>,
}

impl DnsAnswers {
    fn literal(address: IpAddr) -> Self {
        let now = Instant::now();
        let mut answers = Self {
            by_family: [LookupState::Empty, LookupState::Empty],
            at: None,
        };
        let family = match address {
            IpAddr::V4(_) => AddressFamily::V4,
            IpAddr::V6(_) => AddressFamily::V6,
        };
        let found = ResolvedAddresses {
            addresses: [address].into(),
            until: now.into_std(),
        };
        answers.set(family, LookupState::Addresses(found), now);
        answers
    }

    fn set(&mut self, family: AddressFamily, answer: LookupState, now: Instant) {
        self.by_family[family as usize] = answer;
        self.at = Some(now);
    }

    fn of(&self, family: AddressFamily) -> &[IpAddr] {
        match &self.by_family[family as usize] {
            LookupState::Addresses(found) => &found.addresses,
            LookupState::Pending | LookupState::Empty => &[],
        }
    }

    fn all(&self) -> impl Iterator<Item = IpAddr> {
        self.of(AddressFamily::V4)
            .iter()
            .chain(self.of(AddressFamily::V6))
            .copied()
    }

    fn is_complete(&self) -> bool {
        let mut answers = self.by_family.iter();
        answers.all(|answer| !matches!(answer, LookupState::Pending))
    }

    /// Whether the name must be resolved again.
    fn is_expired(&self, now: Instant) -> bool {
        let expiries = self.by_family.iter().filter_map(|answer| match answer {
            LookupState::Addresses(found) => Some(found.until),
            LookupState::Pending | LookupState::Empty => None,
        });
        match expiries.min() {
            Some(until) => until <= now.into_std(),
            None => self.is_complete() && self.at.is_none_or(|at| at + EMPTY_TTL <= now),
        }
    }
}

/// The addresses of one host in the order in which they are dialled: the families alternate.
pub(crate) struct Addresses {
    rules: TargetRules,
    is_resolved: bool,
    answers: watch::Receiver<DnsAnswers>,
    /// The number of IPv4 and of IPv6 addresses that were returned.
    returned: [usize; 2],
    last: Option<AddressFamily>,
}

impl Addresses {
    /// The next address, once it is known; none when there are no more. Cancel safe.
    ///
    /// # Errors
    /// [`NotAllowed`], when there is no address, or as soon as any address may not be dialled. That address
    /// disqualifies the others: an owner that mixes them hopes to pass by chance.
    pub(crate) async fn next(&mut self) -> Result<Option<IpAddr>, NotAllowed> {
        loop {
            let answers = self.answers.borrow_and_update().clone();
            self.check(&answers)?;
            let waits_until = self.waits_until(&answers).filter(|at| *at > Instant::now());
            if waits_until.is_none()
                && let Some(address) = self.pick(&answers)
            {
                return Ok(Some(address));
            }
            if answers.is_complete() {
                return match self.last {
                    Some(_) => Ok(None),
                    None => Err(NotAllowed),
                };
            }
            let change = self.answers.changed();
            match waits_until {
                None => change.await.map_err(|_| NotAllowed)?,
                Some(at) => tokio::select! {
                    changed = change => changed.map_err(|_| NotAllowed)?,
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    /// Whether the host is a name, and not an address itself.
    pub(crate) fn is_resolved(&self) -> bool {
        self.is_resolved
    }

    /// Checks that all addresses known until now may be dialled.
    ///
    /// # Errors
    /// [`NotAllowed`], when an address may not.
    pub(crate) fn check_all(&self) -> Result<(), NotAllowed> {
        self.check(&self.answers.borrow())
    }

    fn check(&self, answers: &DnsAnswers) -> Result<(), NotAllowed> {
        if answers.all().all(|address| self.rules.allow(address)) {
            Ok(())
        } else {
            Err(NotAllowed)
        }
    }

    /// The end of the time for which the first IPv4 address waits for an IPv6 one.
    fn waits_until(&self, answers: &DnsAnswers) -> Option<Instant> {
        let v6 = &answers.by_family[AddressFamily::V6 as usize];
        let waits = self.last.is_none() && matches!(v6, LookupState::Pending);
        answers.at.filter(|_| waits).map(|at| at + RESOLUTION_DELAY)
    }

    fn pick(&mut self, answers: &DnsAnswers) -> Option<IpAddr> {
        let order = match self.last {
            Some(AddressFamily::V6) => [AddressFamily::V4, AddressFamily::V6],
            Some(AddressFamily::V4) | None => [AddressFamily::V6, AddressFamily::V4],
        };
        order.into_iter().find_map(|family| {
            let returned = &mut self.returned[family as usize];
            let address = *answers.of(family).get(*returned)?;
            *returned += 1;
            self.last = Some(family);
            Some(address)
        })
    }
}

#[cfg(test)]
mod tests;
