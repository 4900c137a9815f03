use std::net::{Ipv4Addr, Ipv6Addr};

use hookline_core::target::Networks;

use super::*;

const FOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8));
const OTHER_FOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4));
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 1));
const INSIDE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn found(addresses: &[IpAddr]) -> LookupState {
    LookupState::Addresses(ResolvedAddresses {
        addresses: addresses.into(),
        until: std::time::Instant::now(),
    })
}

struct Lookup {
    sender: watch::Sender<DnsAnswers>,
    addresses: Addresses,
}

fn lookup() -> Lookup {
    let (sender, answers) = watch::channel(DnsAnswers::default());
    let rules = TargetRules {
        networks: Networks::default(),
        ..TargetRules::DEV
    };
    let addresses = Addresses {
        rules,
        is_resolved: true,
        answers,
        returned: [0, 0],
        last: None,
    };
    Lookup { sender, addresses }
}

impl Lookup {
    fn answer(&self, family: AddressFamily, answer: LookupState) {
        self.sender
            .send_modify(|answers| answers.set(family, answer, Instant::now()));
    }

    async fn returned(&mut self) -> Vec<IpAddr> {
        let mut returned = Vec::new();
        while let Some(address) = self.addresses.next().await.unwrap() {
            returned.push(address);
        }
        returned
    }
}

#[tokio::test(start_paused = true)]
async fn address_families_alternate_and_ipv6_is_first() {
    let mut lookup = lookup();
    lookup.answer(AddressFamily::V4, found(&[FOUR, OTHER_FOUR]));
    lookup.answer(AddressFamily::V6, found(&[SIX]));
    assert_eq!(lookup.returned().await, [SIX, FOUR, OTHER_FOUR]);
}

#[tokio::test(start_paused = true)]
async fn ipv4_waits_for_ipv6_no_longer_than_the_resolution_delay() {
    let mut lookup = lookup();
    let began = Instant::now();
    lookup.answer(AddressFamily::V4, found(&[FOUR, OTHER_FOUR]));
    assert_eq!(lookup.addresses.next().await, Ok(Some(FOUR)));
    assert_eq!(began.elapsed(), RESOLUTION_DELAY);
    lookup.answer(AddressFamily::V6, found(&[SIX]));
    assert_eq!(lookup.returned().await, [SIX, OTHER_FOUR]);
}

#[tokio::test(start_paused = true)]
async fn ipv6_addresses_are_used_at_once() {
    let mut lookup = lookup();
    let began = Instant::now();
    lookup.answer(AddressFamily::V6, found(&[SIX]));
    assert_eq!(lookup.addresses.next().await, Ok(Some(SIX)));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_late_address_that_is_not_allowed_disqualifies_the_earlier_ones() {
    let mut lookup = lookup();
    lookup.answer(AddressFamily::V4, found(&[FOUR, OTHER_FOUR]));
    assert_eq!(lookup.addresses.next().await, Ok(Some(FOUR)));
    assert_eq!(lookup.addresses.check_all(), Ok(()));
    lookup.answer(AddressFamily::V6, found(&[INSIDE]));
    assert_eq!(lookup.addresses.check_all(), Err(NotAllowed));
    assert_eq!(lookup.addresses.next().await, Err(NotAllowed));
}

#[tokio::test(start_paused = true)]
async fn a_name_without_addresses_is_not_allowed() {
    let mut lookup = lookup();
    lookup.answer(AddressFamily::V4, LookupState::Empty);
    lookup.answer(AddressFamily::V6, LookupState::Empty);
    assert_eq!(lookup.addresses.next().await, Err(NotAllowed));
}

#[test]
fn an_answer_is_cached_for_its_time_to_live_and_an_empty_one_for_two_seconds() {
    let now = Instant::now();
    let mut answers = DnsAnswers::default();
    assert!(!answers.is_expired(now), "it is being asked");
    answers.set(AddressFamily::V4, LookupState::Empty, now);
    assert!(!answers.is_expired(now + MAX_TTL), "IPv6 is being asked");
    answers.set(AddressFamily::V6, LookupState::Empty, now);
    assert!(!answers.is_expired(now));
    assert!(answers.is_expired(now + EMPTY_TTL));
    let until = (now + Duration::from_secs(9)).into_std();
    let addresses = [SIX].into();
    answers.set(
        AddressFamily::V6,
        LookupState::Addresses(ResolvedAddresses { addresses, until }),
        now,
    );
    assert!(!answers.is_expired(now + Duration::from_secs(8)));
    assert!(answers.is_expired(now + Duration::from_secs(9)));
}
