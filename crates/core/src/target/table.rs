//! Targets and the answer of `hookline serve`, a row for each rule or spelling. Hosts come first and are put into
//! `https://HOST/`; whole URLs follow.

use super::InvalidTarget::{self, BlockedAddress, Host, Name, Port, Scheme};

pub(super) type TargetVerdict = Result<(), InvalidTarget>;

const INSIDE: TargetVerdict = Err(BlockedAddress);
const OUTSIDE: TargetVerdict = Ok(());
const NAME: TargetVerdict = Err(Name);
const HOST: TargetVerdict = Err(Host);

/// A description, the verdict, and the hosts that it is true of.
#[rustfmt::skip]
pub(super) const HOSTS: &[(&str, TargetVerdict, &[&str])] = &[
    ("this network, RFC 791",           INSIDE,  &["0.0.0.0", "0.0.0.1", "0.255.255.255"]),
    ("private, RFC 1918",               INSIDE,  &["10.0.0.0", "10.1.2.3", "10.255.255.255"]),
    ("private, RFC 1918",               INSIDE,  &["172.16.0.0", "172.20.1.2", "172.31.255.255"]),
    ("private, RFC 1918",               INSIDE,  &["192.168.0.0", "192.168.1.1", "192.168.255.255"]),
    ("carriers' NAT, RFC 6598",         INSIDE,  &["100.64.0.0", "100.100.100.200", "100.127.255.255"]),
    ("loopback, RFC 1122",              INSIDE,  &["127.0.0.0", "127.0.0.1", "127.0.0.53", "127.255.255.255"]),
    ("link-local, RFC 3927",            INSIDE,  &["169.254.0.0", "169.254.0.1", "169.254.255.255"]),
    ("metadata services of clouds",     INSIDE,  &["169.254.169.254", "169.254.170.2", "168.63.129.16", "192.0.0.192", "[fd00:ec2::254]"]),
    ("protocol assignments, RFC 6890",  INSIDE,  &["192.0.0.0", "192.0.0.8", "192.0.0.170", "192.0.0.255"]),
    ("documentation, RFC 5737",         INSIDE,  &["192.0.2.0", "192.0.2.255", "198.51.100.1", "203.0.113.1", "203.0.113.255"]),
    ("6to4 relays, RFC 7526",           INSIDE,  &["192.88.99.0", "192.88.99.1", "192.88.99.255"]),
    ("benchmarking, RFC 2544",          INSIDE,  &["198.18.0.0", "198.19.255.255"]),
    ("multicast, RFC 5771",             INSIDE,  &["224.0.0.0", "224.0.0.1", "239.255.255.255"]),
    ("reserved, RFC 1112",              INSIDE,  &["240.0.0.0", "240.0.0.1", "255.255.255.254"]),
    ("broadcast, RFC 919",              INSIDE,  &["255.255.255.255"]),

    ("127.0.0.1, in fewer parts",       INSIDE,  &["127.1", "127.0.1", "2130706433"]),
    ("127.0.0.1, octal",                INSIDE,  &["0177.0.0.1", "0177.1", "017700000001", "00000000177.0.0.01"]),
    ("127.0.0.1, hexadecimal",          INSIDE,  &["0x7f.0.0.1", "0x7f.1", "0x7f000001", "0X7F000001", "0x7f.0x0.0x0.0x1"]),
    ("127.0.0.1, mixed",                INSIDE,  &["0x7f.0.0.01", "0177.0x0.0.1", "127.0x1"]),
    ("127.0.0.1, with a dot behind it", INSIDE,  &["127.0.0.1.", "127.1.", "0x7f000001."]),
    ("127.0.0.1, escaped",              INSIDE,  &["%31%32%37.0.0.1", "127%2e0%2e0%2e1", "127.0.0%2E1"]),
    ("127.0.0.1, in other digits",      INSIDE,  &["１２７.0.0.1", "①②⑦.0.0.1", "127。0。0。1", "127．0．0．1"]),
    ("0.0.0.0, short",                  INSIDE,  &["0", "0x0", "00", "0.0"]),
    ("10.0.0.1, by other spellings",    INSIDE,  &["10.1", "167772161", "0xa000001", "012.0.0.1"]),
    ("169.254.169.254, likewise",       INSIDE,  &["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.254.43518", "169.16689662"]),
    ("192.168.1.1, likewise",           INSIDE,  &["3232235777", "0xc0a80101", "192.168.257", "192.11010305"]),

    ("unspecified, RFC 4291",           INSIDE,  &["[::]", "[0:0:0:0:0:0:0:0]"]),
    ("loopback, RFC 4291",              INSIDE,  &["[::1]", "[0:0:0:0:0:0:0:1]", "[0000::0001]"]),
    ("IPv4-mapped, RFC 4291",           INSIDE,  &["[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:10.0.0.1]", "[0:0:0:0:0:ffff:a9fe:a9fe]"]),
    ("mapped, of a public address",     INSIDE,  &["[::ffff:8.8.8.8]", "[::ffff:808:808]"]),
    ("IPv4-compatible, RFC 4291",       INSIDE,  &["[::127.0.0.1]", "[::7f00:1]", "[::10.0.0.1]", "[::8.8.8.8]"]),
    ("IPv4-translated, RFC 2765",       INSIDE,  &["[::ffff:0:127.0.0.1]", "[::ffff:0:7f00:1]", "[::ffff:0:8.8.8.8]"]),
    ("NAT64, RFC 6052",                 INSIDE,  &["[64:ff9b::127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b::8.8.8.8]"]),
    ("local NAT64, RFC 8215",           INSIDE,  &["[64:ff9b:1::]", "[64:ff9b:1::7f00:1]", "[64:ff9b:1:ffff:ffff:ffff:ffff:ffff]"]),
    ("discard-only, RFC 6666",          INSIDE,  &["[100::]", "[100::1]", "[100:0:0:1::1]"]),
    ("Teredo, RFC 4380",                INSIDE,  &["[2001::1]", "[2001:0:7f00:1::]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]"]),
    ("protocol assignments, RFC 2928",  INSIDE,  &["[2001:2::1]", "[2001:10::1]", "[2001:20::1]", "[2001:1ff:ffff::]"]),
    ("documentation, RFC 3849, 9637",   INSIDE,  &["[2001:db8::1]", "[2001:db8:ffff::1]", "[3fff::1]", "[3fff:fff::1]"]),
    ("6to4, RFC 3056",                  INSIDE,  &["[2002::1]", "[2002:7f00:1::]", "[2002:a00:1::1]", "[2002:808:808::1]"]),
    ("ISATAP, RFC 5214",                INSIDE,  &["[2600::5efe:127.0.0.1]", "[2600::200:5efe:a00:1]", "[2a00:1:2:3:0:5efe:a9fe:a9fe]"]),
    ("segment routing, RFC 9602",       INSIDE,  &["[5f00::1]"]),
    ("unique local, RFC 4193",          INSIDE,  &["[fc00::]", "[fc00::1]", "[fd12:3456:789a::1]", "[fdff:ffff::1]"]),
    ("link-local, RFC 4291",            INSIDE,  &["[fe80::1]", "[fe80::a9fe:a9fe]", "[febf::1]"]),
    ("site-local, RFC 3879",            INSIDE,  &["[fec0::1]", "[feff::1]"]),
    ("multicast, RFC 4291",             INSIDE,  &["[ff00::]", "[ff02::1]", "[ff0e::1]"]),
    ("never given out",                 INSIDE,  &["[1::1]", "[400::1]", "[1fff::1]", "[4000::1]", "[8000::1]", "[e000::1]"]),

    ("public, beside what is not",      OUTSIDE, &["1.0.0.0", "9.255.255.255", "11.0.0.0", "126.255.255.255", "128.0.0.0"]),
    ("public, beside what is not",      OUTSIDE, &["100.63.255.255", "100.128.0.0", "169.253.255.255", "169.255.0.0"]),
    ("public, beside what is not",      OUTSIDE, &["172.15.255.255", "172.32.0.0", "192.167.255.255", "192.169.0.0"]),
    ("public, beside what is not",      OUTSIDE, &["192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0", "198.17.255.255", "198.20.0.0"]),
    ("public, beside what is not",      OUTSIDE, &["168.63.129.15", "168.63.129.17", "203.0.112.255", "203.0.114.0", "223.255.255.255"]),
    ("public, in another spelling",     OUTSIDE, &["134744072", "0x08080808", "8.8.2056", "010.010.010.010"]),
    ("public IPv6",                     OUTSIDE, &["[2001:200::1]", "[2001:db7::1]", "[2001:db9::1]", "[2003::1]", "[3fff:1000::1]"]),
    ("public IPv6",                     OUTSIDE, &["[2606:4700::1111]", "[2a00:1450::1]", "[2600::5eff:7f00:1]", "[2600::1:5efe:7f00:1]"]),
    ("names, judged when they resolve", OUTSIDE, &["example.com", "example.com.", "bücher.example.com", "a_b.example.org"]),
    ("names that look like addresses",  OUTSIDE, &["127.0.0.1.nip.io", "1.0.0.127.in-addr.arpa", "0x7f000001.example.com", "127-0-0-1.example.com"]),
    ("names that are never public",     NAME,    &["localhost", "localhost.", "a.b.localhost", "bücher.example", "db.internal", "intranet"]),
    ("hosts of no request",             HOST,    &["{{host}}", "a..com", "-a.com", "*.example.com"]),
];

/// A description, the verdict, and the URLs that it is true of.
#[rustfmt::skip]
pub(super) const URLS: &[(&str, TargetVerdict, &[&str])] = &[
    ("the port that it has anyway",     Ok(()),         &["https://8.8.8.8:443/", "https://example.com:443", "https://[2600::1]:443/"]),
    ("another port",                    Err(Port),      &["https://8.8.8.8:80/", "https://example.com:22/", "https://example.com:8443/", "https://[2600::1]:6379/"]),
    ("no port at all",                  Err(Port),      &["https://example.com:0/"]),
    ("without TLS",                     Err(Scheme),    &["http://example.com/", "http://example.com:443/", "HTTP://8.8.8.8/"]),
    ("another protocol",                Err(Scheme),    &["ftp://8.8.8.8/", "file:///etc/passwd", "gopher://8.8.8.8:70/", "unix:///run/docker.sock"]),
    ("inside, whatever the port",       INSIDE,         &["https://127.0.0.1:443/", "https://127.0.0.1:8443/", "https://[::1]:6379/"]),
    ("inside, whatever follows",        INSIDE,         &["https://169.254.169.254/latest/meta-data/", "https://127.0.0.1?example.com", "https://127.0.0.1\\@example.com/"]),
    ("an address for a name",           Err(InvalidTarget::Credentials), &["https://example.com@127.0.0.1/", "https://127.0.0.1@example.com/"]),
    ("no address at all",               Err(InvalidTarget::NotAbsolute), &["https://256.0.0.1/", "https://1.2.3.4.5/", "https://0x100000000/", "https://4294967296/", "https://127.0.0.08/", "https://[::1/"]),
    ("an address of one link alone",    Err(InvalidTarget::NotAbsolute), &["https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://[::1%lo]/"]),
    ("control characters, white space", Err(InvalidTarget::NotAbsolute), &["https://127.0.0.1\0/", "https://127.0.0.1\r\nHost: a/", "https://exa mple.com/", "\thttps://127.0.0.1/"]),
];
