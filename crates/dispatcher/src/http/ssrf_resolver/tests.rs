use std::net::{Ipv4Addr, Ipv6Addr};

use hookline_core::target::Networks;

use super::*;

const FOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8));
const OTHER_FOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4));
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0, 0, 0, 0, 0, 1));
const INSIDE: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn these(addresses: &[IpAddr]) -> Said {
    Said::These(Found {
        addresses: addresses.into(),
        until: std::time::Instant::now(),
    })
}

struct Asked {
    saying: watch::Sender<Heard>,
    addresses: Addresses,
}

fn asked() -> Asked {
    let (saying, heard) = watch::channel(Heard::default());
    let rules = TargetRules {
        networks: Networks::default(),
        ..TargetRules::DEV
    };
    let addresses = Addresses {
        rules,
        heard,
        given: [0, 0],
        last: None,
    };
    Asked { saying, addresses }
}

impl Asked {
    fn say(&self, family: Family, said: Said) {
        self.saying
            .send_modify(|heard| heard.hear(family, said, Instant::now()));
    }

    async fn given(&mut self) -> Vec<IpAddr> {
        let mut given = Vec::new();
        while let Some(address) = self.addresses.next().await.unwrap() {
            given.push(address);
        }
        given
    }
}

#[tokio::test(start_paused = true)]
async fn families_take_turns_and_the_preferred_one_begins() {
    let mut asked = asked();
    asked.say(Family::V4, these(&[FOUR, OTHER_FOUR]));
    asked.say(Family::V6, these(&[SIX]));
    assert_eq!(asked.given().await, [SIX, FOUR, OTHER_FOUR]);
}

#[tokio::test(start_paused = true)]
async fn ipv4_waits_for_ipv6_no_longer_than_the_resolution_delay() {
    let mut asked = asked();
    let began = Instant::now();
    asked.say(Family::V4, these(&[FOUR, OTHER_FOUR]));
    assert_eq!(asked.addresses.next().await, Ok(Some(FOUR)));
    assert_eq!(began.elapsed(), RESOLUTION_DELAY);
    asked.say(Family::V6, these(&[SIX]));
    assert_eq!(asked.given().await, [SIX, OTHER_FOUR]);
}

#[tokio::test(start_paused = true)]
async fn ipv6_waits_for_nothing() {
    let mut asked = asked();
    let began = Instant::now();
    asked.say(Family::V6, these(&[SIX]));
    assert_eq!(asked.addresses.next().await, Ok(Some(SIX)));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_late_and_may_not_be_dialled_spoils_what_came_before() {
    let mut asked = asked();
    asked.say(Family::V4, these(&[FOUR, OTHER_FOUR]));
    assert_eq!(asked.addresses.next().await, Ok(Some(FOUR)));
    assert_eq!(asked.addresses.judge_all(), Ok(()));
    asked.say(Family::V6, these(&[INSIDE]));
    assert_eq!(asked.addresses.judge_all(), Err(NotAllowed));
    assert_eq!(asked.addresses.next().await, Err(NotAllowed));
}

#[tokio::test(start_paused = true)]
async fn a_name_without_addresses_is_not_allowed() {
    let mut asked = asked();
    asked.say(Family::V4, Said::Nothing);
    asked.say(Family::V6, Said::Nothing);
    assert_eq!(asked.addresses.next().await, Err(NotAllowed));
}

#[test]
fn what_was_said_counts_as_long_as_its_owner_says_and_nothing_for_a_while() {
    let now = Instant::now();
    let mut heard = Heard::default();
    assert!(!heard.is_over(now), "it is being asked");
    heard.hear(Family::V4, Said::Nothing, now);
    assert!(!heard.is_over(now + LONGEST), "IPv6 is being asked");
    heard.hear(Family::V6, Said::Nothing, now);
    assert!(!heard.is_over(now));
    assert!(heard.is_over(now + NOWHERE));
    let until = (now + Duration::from_secs(9)).into_std();
    let addresses = [SIX].into();
    heard.hear(Family::V6, Said::These(Found { addresses, until }), now);
    assert!(!heard.is_over(now + Duration::from_secs(8)));
    assert!(heard.is_over(now + Duration::from_secs(9)));
}
