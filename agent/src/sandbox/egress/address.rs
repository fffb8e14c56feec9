//! The address rule: what no grant opens, and what only a grant that names it opens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is to a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A grant for its name, a wildcard or itself suffices.
    Public,
    /// This host or its neighbours: only a grant of that very host, address or network. The text says what it is.
    Local(&'static str),
    /// No grant opens it. The text says why.
    Never(&'static str),
}

/// An IPv4 or IPv6 network as it stands in a grant: `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// First address; the bits behind the prefix are zero.
    base: IpAddr,
    /// Leading bits that must agree: 0–32 or 0–128.
    prefix: u8,
}

/// Where clouds answer with the credentials of the machine, beside the link-local one.
const METADATA: [IpAddr; 5] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
];

/// Judges an address; IPv4 mapped into IPv6 counts as the IPv4 it is.
pub fn standing(ip: IpAddr) -> Standing {
    let ip = ip.to_canonical();
    if METADATA.contains(&ip) {
        return Standing::Never("a metadata address, where clouds hand out credentials");
    }
    match ip {
        IpAddr::V4(ip) => of_v4(ip),
        IpAddr::V6(ip) => of_v6(ip),
    }
}

fn of_v4(ip: Ipv4Addr) -> Standing {
    let [a, b, c, _] = ip.octets();
    // The whole of 0.0.0.0/8: Linux takes 0.0.0.0 for this host.
    if a == 0 {
        return Standing::Never("the unspecified network");
    }
    if ip.is_link_local() {
        return Standing::Never("link-local, where clouds hand out credentials");
    }
    if ip.is_broadcast() {
        return Standing::Never("the broadcast address");
    }
    if ip.is_multicast() {
        return Standing::Never("a multicast address");
    }
    // Relay anycast of 6to4: a packet to it leaves for an address inside another one.
    if (a, b, c) == (192, 88, 99) {
        return Standing::Never("a 6to4 relay");
    }
    if ip.is_loopback() {
        return Standing::Local("a loopback address");
    }
    let shared = a == 100 && (64..128).contains(&b);
    let protocol_or_test = (a, b, c) == (192, 0, 0) || (a == 198 && (b == 18 || b == 19));
    if ip.is_private() || shared || protocol_or_test || a >= 240 {
        return Standing::Local("a private address");
    }
    Standing::Public
}

fn of_v6(ip: Ipv6Addr) -> Standing {
    if ip.is_unspecified() {
        return Standing::Never("the unspecified address");
    }
    if ip.is_loopback() {
        return Standing::Local("a loopback address");
    }
    if ip.is_multicast() {
        return Standing::Never("a multicast address");
    }
    let s = ip.segments();
    if s[0] & 0xffc0 == 0xfe80 {
        return Standing::Never("link-local");
    }
    // These carry an IPv4 address inside, which a gateway would dial: the rule would not see it.
    if s[0] == 0x64 && s[1] == 0xff9b {
        return Standing::Never("NAT64, an IPv4 address in disguise");
    }
    if s[0] == 0x2002 {
        return Standing::Never("6to4, an IPv4 address in disguise");
    }
    if s[0] == 0x2001 && s[1] == 0 {
        return Standing::Never("Teredo, an IPv4 address in disguise");
    }
    if s[..6] == [0; 6] || s[..6] == [0, 0, 0, 0, 0xffff, 0] {
        return Standing::Never("an IPv4 address in disguise");
    }
    // Unique local, and the old site-local.
    if s[0] & 0xfe00 == 0xfc00 || s[0] & 0xffc0 == 0xfec0 {
        return Standing::Local("a private address");
    }
    Standing::Public
}

impl Cidr {
    /// `10.0.0.0/8`, `fd00::/8`; none for anything else, or where bits stand behind the prefix.
    pub fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = text.split_once('/')?;
        let base: IpAddr = base.parse().ok()?;
        // `+8` and `08` are numbers to Rust, but nobody writes them on purpose.
        if prefix.starts_with('+') || (prefix.len() > 1 && prefix.starts_with('0')) {
            return None;
        }
        let prefix: u8 = prefix.parse().ok()?;
        let cidr = Cidr { base, prefix };
        (prefix <= width(base) && cidr.contains(base) && bits(base) & !mask(base, prefix) == 0)
            .then_some(cidr)
    }

    /// The network of one address.
    pub fn single(ip: IpAddr) -> Self {
        let base = ip.to_canonical();
        Cidr {
            base,
            prefix: width(base),
        }
    }

    /// Whether the address lies in it; IPv4 mapped into IPv6 counts as IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        ip.is_ipv4() == self.base.is_ipv4()
            && bits(ip) & mask(ip, self.prefix) == bits(self.base) & mask(ip, self.prefix)
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn mask(ip: IpAddr, prefix: u8) -> u128 {
    let all = if ip.is_ipv4() {
        u128::from(u32::MAX)
    } else {
        u128::MAX
    };
    // A shift by the whole width would overflow: /0 keeps nothing.
    let behind = u32::from(width(ip) - prefix.min(width(ip)));
    all & u128::MAX.checked_shl(behind).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_of_address_has_its_standing() {
        for (ip, want) in [
            ("93.184.216.34", "public"),
            ("2606:2800:220:1::1", "public"),
            ("::ffff:93.184.216.34", "public"),
            ("127.0.0.1", "local"),
            ("127.8.9.1", "local"),
            ("::1", "local"),
            ("::ffff:127.0.0.1", "local"),
            ("10.1.2.3", "local"),
            ("172.16.0.1", "local"),
            ("172.32.0.1", "public"),
            ("192.168.1.1", "local"),
            ("::ffff:192.168.1.1", "local"),
            ("100.64.0.1", "local"),
            ("100.128.0.1", "public"),
            ("198.18.0.1", "local"),
            ("240.0.0.1", "local"),
            ("fc00::1", "local"),
            ("fd12:3456::1", "local"),
            ("fec0::1", "local"),
            ("0.0.0.0", "never"),
            ("0.1.2.3", "never"),
            ("::", "never"),
            ("::ffff:0.0.0.0", "never"),
            ("224.0.0.1", "never"),
            ("ff02::1", "never"),
            ("255.255.255.255", "never"),
            ("169.254.169.254", "never"),
            ("::ffff:169.254.169.254", "never"),
            ("169.254.0.1", "never"),
            ("fe80::1", "never"),
            ("febf::1", "never"),
            ("fd00:ec2::254", "never"),
            ("fd20:ce::254", "never"),
            ("100.100.100.200", "never"),
            ("168.63.129.16", "never"),
            ("192.0.0.192", "never"),
            ("64:ff9b::7f00:1", "never"),
            ("64:ff9b:1::7f00:1", "never"),
            ("2002:7f00:1::", "never"),
            ("2001::1", "never"),
            ("2001:4860::8888", "public"),
            ("::7f00:1", "never"),
            ("::ffff:0:7f00:1", "never"),
            ("192.88.99.1", "never"),
        ] {
            let got = match standing(ip.parse().expect("an address")) {
                Standing::Public => "public",
                Standing::Local(_) => "local",
                Standing::Never(_) => "never",
            };
            assert_eq!(got, want, "{ip}");
        }
    }

    #[test]
    fn networks_contain_what_they_say() {
        for (net, ip, want) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("192.168.1.7/32", "192.168.1.7", true),
            ("192.168.1.7/32", "192.168.1.8", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "fd00::1", false),
            ("fd00::/8", "fdff::1", true),
            ("fd00::/8", "fe00::1", false),
            ("::/0", "fe00::1", true),
        ] {
            let net_ = Cidr::parse(net).expect("a network");
            assert_eq!(
                net_.contains(ip.parse().expect("an address")),
                want,
                "{net} {ip}"
            );
        }
        for wrong in [
            "10.0.0.1/8",
            "10.0.0.0/33",
            "fd00::/129",
            "10.0.0.0",
            "a/8",
            "10.0.0.0/+8",
            "10.0.0.0/08",
        ] {
            assert_eq!(Cidr::parse(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        /// However it is written, an address and its IPv6 clothes have one standing.
        #[test]
        fn mapped_addresses_stand_as_what_they_are(bits: u32) {
            let ip = Ipv4Addr::from_bits(bits);
            let mapped = IpAddr::V6(ip.to_ipv6_mapped());
            proptest::prop_assert_eq!(standing(IpAddr::V4(ip)), standing(mapped));
            proptest::prop_assert!(Cidr::single(IpAddr::V4(ip)).contains(mapped));
        }
    }
}
