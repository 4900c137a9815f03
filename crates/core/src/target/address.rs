//! Public addresses. Addresses of the IANA special-purpose registries (RFC 6890) are not public, nor is an IPv6
//! address that embeds an IPv4 address, because it leads to that one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Azure's metadata service: a public address from which every machine of that cloud reads credentials and settings.
const WIRE_SERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);

/// Whether an address is global unicast and embeds no other.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let protocol_assignments = a == 192 && b == 0 && c == 0;
    let relay_anycast = a == 192 && b == 88 && c == 99;
    let benchmarking = a == 198 && (18..20).contains(&b);
    !(a == 0
        || address.is_loopback()
        || address.is_private()
        || address.is_link_local()
        || address.is_documentation()
        || address.is_multicast()
        || shared
        || protocol_assignments
        || relay_anycast
        || benchmarking
        || a >= 240
        || address == WIRE_SERVER)
}

/// Unspecified, loopback, mapped, compatible, translated, NAT64, discard-only, unique local,
/// link-local and multicast are all outside 2000::/3, the only part that was ever given out.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let given_out = segments[0] & 0xe000 == 0x2000;
    let protocol_assignments_and_teredo = segments[0] == 0x2001 && segments[1] < 0x0200;
    let documentation = segments[0] == 0x2001 && segments[1] == 0x0db8
        || segments[0] == 0x3fff && segments[1] < 0x1000;
    let six_to_four = segments[0] == 0x2002;
    // An interface of ISATAP (RFC 5214), under any prefix; its last 32 bits are an IPv4 address.
    let isatap = segments[4] & 0xfdff == 0 && segments[5] == 0x5efe;
    given_out && !(protocol_assignments_and_teredo || documentation || six_to_four || isatap)
}
