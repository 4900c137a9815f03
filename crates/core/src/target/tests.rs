use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::table::{HOSTS, TargetVerdict, URLS};
use super::*;

fn strict(text: &str) -> Result<TargetUrl, InvalidTarget> {
    TargetUrl::parse(text, &TargetRules::default())
}

fn verdict(text: &str) -> TargetVerdict {
    strict(text).map(drop)
}

#[test]
fn every_row_of_the_table_holds() {
    let hosts = HOSTS.iter().flat_map(|(what, expected, hosts)| {
        let url = |host: &&str| (*what, *expected, format!("https://{host}/"));
        hosts.iter().map(url).collect::<Vec<_>>()
    });
    let urls = URLS.iter().flat_map(|(what, expected, urls)| {
        let url = |url: &&str| (*what, *expected, (*url).to_owned());
        urls.iter().map(url).collect::<Vec<_>>()
    });
    let rows: Vec<_> = hosts.chain(urls).collect();
    assert!(rows.len() >= 120, "{} rows", rows.len());
    let wrong: Vec<_> = rows
        .iter()
        .map(|(what, expected, url)| (what, url, expected, verdict(url)))
        .filter(|(_, _, expected, found)| *expected != found)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} rows: {wrong:#?}",
        wrong.len(),
        rows.len()
    );
}

#[test]
fn a_target_is_an_absolute_https_url_of_at_most_2048_characters() {
    let longest = format!("https://example.com/{}", "a".repeat(MAX_URL - 20));
    assert!(strict(&longest).is_ok());
    assert_eq!(strict(&format!("{longest}a")), Err(InvalidTarget::TooLong));
    for (text, why) in [
        ("", InvalidTarget::NotAbsolute),
        ("/hooks", InvalidTarget::NotAbsolute),
        ("example.com", InvalidTarget::NotAbsolute),
        ("https:example.com", InvalidTarget::NotAbsolute),
        ("https:///", InvalidTarget::NotAbsolute),
        (" https://example.com", InvalidTarget::NotAbsolute),
        ("https://exam\nple.com", InvalidTarget::NotAbsolute),
        ("http://example.com", InvalidTarget::Scheme),
        ("ftp://example.com", InvalidTarget::Scheme),
        ("javascript:alert(1)", InvalidTarget::Scheme),
        ("https://u@example.com", InvalidTarget::Credentials),
        ("https://u:p@example.com", InvalidTarget::Credentials),
        ("https://:p@example.com", InvalidTarget::Credentials),
        ("https://example.com/#a", InvalidTarget::Fragment),
        ("https://example.com/#", InvalidTarget::Fragment),
    ] {
        assert_eq!(strict(text), Err(why), "{text}");
    }
    for good in [
        "https://example.com",
        "HTTPS://Example.com:443/a?b=c",
        "https://bücher.example.com/",
        "https://example.com./",
        "https://a_b.example.org/",
    ] {
        assert_eq!(strict(good).unwrap().as_str(), good);
    }
}

#[test]
fn dev_allows_ones_own_machine() {
    assert!(TargetUrl::parse("http://127.0.0.1:9000/", &TargetRules::DEV).is_ok());
}

#[test]
fn a_network_of_ones_own_is_allowed_and_its_neighbours_are_not() {
    let networks = ["10.20.0.0/16", "fd12:3456::/32"].map(|network| network.parse().unwrap());
    let rules = TargetRules {
        networks: Networks::PublicAnd(networks.into()),
        ports: Ports::These([443, 8443].into()),
        ..TargetRules::default()
    };
    for (url, expected) in [
        ("https://10.20.255.1/", Ok(())),
        ("https://[fd12:3456::1]:8443/", Ok(())),
        ("https://8.8.8.8/", Ok(())),
        ("https://10.21.0.1/", Err(InvalidTarget::BlockedAddress)),
        ("https://127.0.0.1/", Err(InvalidTarget::BlockedAddress)),
        (
            "https://[::ffff:10.20.0.1]/",
            Err(InvalidTarget::BlockedAddress),
        ),
        (
            "https://[2002:a14:1::]/",
            Err(InvalidTarget::BlockedAddress),
        ),
        ("https://10.20.0.1:9000/", Err(InvalidTarget::Port)),
        ("http://10.20.0.1/", Err(InvalidTarget::Scheme)),
    ] {
        assert_eq!(
            TargetUrl::parse(url, &rules).map(drop),
            expected,
            "{url} of these networks"
        );
    }
}

#[test]
fn where_http_is_allowed_so_is_its_port() {
    let rules = TargetRules {
        schemes: Schemes::HttpToo,
        ..TargetRules::default()
    };
    for good in ["http://example.com/", "https://example.com/"] {
        assert!(TargetUrl::parse(good, &rules).is_ok(), "{good}");
    }
    for bad in ["https://example.com:80/", "http://example.com:8080/"] {
        assert_eq!(
            TargetUrl::parse(bad, &rules),
            Err(InvalidTarget::Port),
            "{bad}"
        );
    }
}

/// Every way in which an IPv6 address is known to carry an IPv4 address.
fn carriers(inside: Ipv4Addr, prefix: [u16; 4]) -> Vec<Ipv6Addr> {
    let [a, b, c, d] = inside.octets();
    let [high, low] = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
    let [p, q, r, s] = prefix;
    // RFC 6052, 2.2: bits 64 to 71 are left out of the address.
    let (b_c, d_only) = (u16::from_be_bytes([b, c]), u16::from_be_bytes([d, 0]));
    let (only_c, d_first) = (u16::from(c), u16::from_be_bytes([d, 0]));
    [
        [0, 0, 0, 0, 0, 0xffff, high, low],
        [0, 0, 0, 0, 0, 0, high, low],
        [0, 0, 0, 0, 0xffff, 0, high, low],
        [0x64, 0xff9b, 0, 0, 0, 0, high, low],
        [0x64, 0xff9b, 1, q, r, s, high, low],
        [0x64, 0xff9b, 1, high, only_c, d_first, 0, 0],
        [0x64, 0xff9b, 1, u16::from(a), b_c, d_only, 0, 0],
        [0x2002, high, low, p, q, r, s, 1],
        [0x2001, 0, high, low, p, q, r, s],
        [0x2001, 0, p, q, r, s, !high, !low],
        [0x2600 | p & 0xff, q, r, s, 0, 0x5efe, high, low],
        [0x2600 | p & 0xff, q, r, s, 0x200, 0x5efe, high, low],
    ]
    .map(Ipv6Addr::from)
    .to_vec()
}

/// An IPv4 address as the URL standard would read it: 1 to 4 parts, each in any of three bases.
fn spelled(address: Ipv4Addr, parts: usize, bases: [u8; 4]) -> String {
    let bits = u32::from(address);
    let mut numbers: Vec<u32> = address.octets()[..parts - 1]
        .iter()
        .map(|octet| u32::from(*octet))
        .collect();
    let taken = 8 * (parts as u32 - 1);
    numbers.push(bits & u32::MAX.checked_shr(taken).unwrap_or(0));
    let spelled = numbers.iter().zip(bases).map(|(number, base)| match base {
        0 => format!("{number}"),
        1 => format!("0{number:o}"),
        2 => format!("0x{number:x}"),
        _ => format!("0X{number:08X}"),
    });
    spelled.collect::<Vec<_>>().join(".")
}

/// Addresses of which most would be let through if only chance chose them.
fn inside() -> impl Strategy<Value = Ipv4Addr> {
    let nets = [
        0x0a00_0000_u32,
        0x7f00_0000,
        0xa9fe_0000,
        0xac10_0000,
        0xc0a8_0000,
        0x6440_0000,
        0xe000_0000,
        0,
    ];
    let of_a_net = (proptest::sample::select(nets.to_vec()), 0_u32..0x1_0000)
        .prop_map(|(net, host)| Ipv4Addr::from(net | host));
    let any = any::<u32>().prop_map(Ipv4Addr::from);
    prop_oneof![of_a_net, any].prop_filter("inside", |address| !is_public((*address).into()))
}

proptest! {
    #[test]
    fn no_ipv6_address_carries_an_inside_one_past_the_rules(address in inside(), prefix: [u16; 4]) {
        for carrier in carriers(address, prefix) {
            prop_assert!(!is_public(carrier.into()), "{} carries {}", carrier, address);
            prop_assert_eq!(verdict(&format!("https://[{carrier}]/")), Err(InvalidTarget::BlockedAddress));
        }
    }

    #[test]
    fn no_spelling_of_an_inside_address_is_taken(
        address in inside(),
        parts in 1_usize..=4,
        bases in proptest::array::uniform4(0_u8..4),
        dot in proptest::sample::select(vec!["", "."]),
    ) {
        let url = format!("https://{}{dot}/", spelled(address, parts, bases));
        prop_assert_eq!(verdict(&url), Err(InvalidTarget::BlockedAddress), "{}", url);
    }

    #[test]
    fn what_is_taken_as_a_literal_is_public(text in "https://[0-9a-fx:.\\[\\]%]{1,40}/") {
        if let Ok(target) = strict(&text) {
            let url = Url::parse(target.as_str()).unwrap();
            match url.host() {
                Some(Host::Ipv4(address)) => prop_assert!(is_public(address.into())),
                Some(Host::Ipv6(address)) => prop_assert!(is_public(address.into())),
                _ => {}
            }
        }
    }
}

fn refused(name: &str, networks: &[&str]) -> Option<InvalidTarget> {
    let networks: Vec<IpNet> = networks.iter().map(|net| net.parse().unwrap()).collect();
    let rules = TargetRules {
        networks: Networks::PublicAnd(networks.into()),
        ..TargetRules::default()
    };
    TargetUrl::parse(&format!("https://{name}/hooks"), &rules).err()
}

#[test]
fn a_host_to_which_no_request_can_be_made_is_refused_in_every_mode() {
    let long = "x".repeat(64) + ".com";
    let longer = "x.".repeat(126) + "com";
    for host in [
        "{{host}}",
        "%7B%7Bhost%7D%7D",
        "a\"b.com",
        "a`b.com",
        "a..com",
        ".com",
        "-a.com",
        "a-.com",
        "*.example.com",
        "a~b.com",
        "a..",
        &long,
        &longer,
    ] {
        let dev = TargetUrl::parse(&format!("http://{host}/x"), &TargetRules::DEV).err();
        let expected = [Some(InvalidTarget::Host), Some(InvalidTarget::NotAbsolute)];
        assert!(expected.contains(&dev), "{host}: {dev:?}");
        assert!(expected.contains(&refused(host, &[])), "{host}");
    }
    let whole = "x".repeat(63) + ".com";
    assert_eq!(refused(&whole, &[]), None);
}

#[test]
fn a_name_that_is_never_public_is_refused_where_nothing_inside_is_allowed() {
    let inside = [
        "localhost",
        "a.localhost",
        "LOCALHOST.",
        "hooks.test",
        "printer.local",
        "router.home.arpa",
        "db.internal",
        "intranet",
    ];
    let nowhere = ["hooks.example", "no.invalid", "x.onion", "invalid."];
    for name in inside {
        assert_eq!(refused(name, &[]), Some(InvalidTarget::Name), "{name}");
        assert_eq!(refused(name, &["10.0.0.0/8"]), None, "{name}");
    }
    for name in nowhere {
        assert_eq!(refused(name, &[]), Some(InvalidTarget::Name), "{name}");
        let with_networks = refused(name, &["10.0.0.0/8"]);
        assert_eq!(with_networks, Some(InvalidTarget::Name), "{name}");
    }
    for name in [
        "example.com",
        "example.net",
        "a.example.org",
        "arpa.com",
        "mytest.com",
    ] {
        assert_eq!(refused(name, &[]), None, "{name}");
    }
    assert!(TargetUrl::parse("http://hooks.test/", &TargetRules::DEV).is_ok());
}
