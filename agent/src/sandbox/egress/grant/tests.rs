//! What lines cover, and what wrong ones are told.

use super::*;

fn rules(http: &[&str], tcp: &[&str], dns: &[&str]) -> Result<Rules, Vec<GrantError>> {
    let own = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
    Rules::parse(&Grants {
        http: own(http),
        tcp: own(tcp),
        dns: own(dns),
        ..Grants::default()
    })
}

fn http(url: &str) -> Target {
    let url = reqwest::Url::parse(url).expect("a URL");
    Target::Http {
        scheme: if url.scheme() == "https" {
            Scheme::Https
        } else {
            Scheme::Http
        },
        host: Host::of_url(&url).expect("a host"),
        port: url.port_or_known_default().expect("a port"),
    }
}

#[test]
fn http_grants_cover_scheme_host_and_port() {
    for (grant, url, want) in [
        (
            "https://hooks.slack.com:443",
            "https://hooks.slack.com/services/x",
            true,
        ),
        (
            "https://hooks.slack.com:443",
            "https://HOOKS.slack.COM./x",
            true,
        ),
        (
            "https://hooks.slack.com:443",
            "http://hooks.slack.com:443/",
            false,
        ),
        (
            "https://hooks.slack.com:443",
            "https://hooks.slack.com:444/",
            false,
        ),
        (
            "https://hooks.slack.com:443",
            "https://hooks.slack.com.evil.org/",
            false,
        ),
        (
            "https://hooks.slack.com:443",
            "https://evil-hooks.slack.com/",
            false,
        ),
        ("http://127.0.0.1:*", "http://127.0.0.1:9100/metrics", true),
        ("http://127.0.0.1:*", "http://2130706433:9100/", true),
        ("http://127.0.0.1:*", "http://0x7f.1/", true),
        ("http://127.0.0.1:*", "http://[::ffff:127.0.0.1]/", true),
        ("http://127.0.0.1:*", "http://127.0.0.2/", false),
        ("http://127.0.0.1:*", "http://localhost/", false),
        ("http://localhost:80", "http://localhost/", true),
        ("https://*.example.org:443", "https://a.example.org/", true),
        (
            "https://*.example.org:443",
            "https://a.b.example.org/",
            true,
        ),
        ("https://*.example.org:443", "https://example.org/", false),
        ("https://*.example.org:443", "https://aexample.org/", false),
        ("https://*.example.org:443", "https://.example.org/", false),
        ("http://10.0.0.0/8:*", "http://10.9.8.7:1234/", true),
        ("http://10.0.0.0/8:*", "http://11.9.8.7:1234/", false),
        ("http://10.0.0.0/8:*", "http://ten.example.org/", false),
        ("http://[fd00::/8]:8080", "http://[fd00::1]:8080/", true),
        ("http://[fd00::/8]:8080", "http://[fe00::1]:8080/", false),
        ("http://[::1]:80", "http://[::1]/", true),
        (
            "https://bücher.example:443",
            "https://xn--bcher-kva.example/",
            true,
        ),
        ("https://*:443", "https://anything.example/", true),
        ("https://*:443", "https://93.184.216.34/", true),
    ] {
        let rules = rules(&[grant], &[], &[]).expect(grant);
        assert_eq!(rules.covers(&http(url)).is_some(), want, "{grant} {url}");
    }
}

#[test]
fn only_a_grant_by_name_or_network_opens_local_addresses() {
    let rules = rules(
        &[
            "http://db.internal:80",
            "http://*.internal:80",
            "http://10.0.0.0/8:80",
            "http://192.168.0.0/16:81",
        ],
        &[],
        &[],
    )
    .expect("grants");
    let named = rules.covers(&http("http://db.internal/")).expect("covered");
    assert!(named.named);
    let wild = rules
        .covers(&http("http://web.internal/"))
        .expect("covered");
    assert!(!wild.named);
    assert_eq!(
        wild.networks,
        [Cidr::parse("10.0.0.0/8").expect("a network")]
    );
}

#[test]
fn tcp_and_unix_grants() {
    let rules = rules(
        &[],
        &[
            "127.0.0.1:6379",
            "[::1]:5432",
            "*.db.example:*",
            "unix:/run/redis.sock",
        ],
        &[],
    )
    .expect("grants");
    let tcp = |host: &str, port| Target::Tcp {
        host: Host::parse(host).expect("a host"),
        port,
    };
    assert!(rules.covers(&tcp("127.0.0.1", 6379)).is_some());
    assert!(rules.covers(&tcp("127.0.0.1", 6380)).is_none());
    assert!(rules.covers(&tcp("::1", 5432)).is_some());
    assert!(rules.covers(&tcp("a.db.example", 1)).is_some());
    assert!(
        rules
            .covers(&Target::Unix("/run/redis.sock".into()))
            .is_some()
    );
    assert!(
        rules
            .covers(&Target::Unix("/run/docker.sock".into()))
            .is_none()
    );
}

#[test]
fn dns_grants() {
    let rules = rules(
        &[],
        &[],
        &["example.org", "*.example.net", "_dmarc.example.com"],
    )
    .expect("grants");
    for (name, want) in [
        ("example.org", true),
        ("Example.ORG.", true),
        ("www.example.org", false),
        ("www.example.net", true),
        ("example.net", false),
        ("_dmarc.example.com", true),
    ] {
        assert_eq!(rules.covers_dns(name), want, "{name}");
    }
    assert!(
        super::tests::rules(&[], &[], &["*"])
            .expect("grants")
            .covers_dns("anything")
    );
}

#[test]
fn mistakes_are_told_with_what_to_write_instead() {
    for (key, line, want) in [
        (
            "http",
            "hooks.slack.com",
            "write \"https://hooks.slack.com\"",
        ),
        (
            "http",
            "https://hooks.slack.com",
            "write \"https://hooks.slack.com:443\"",
        ),
        (
            "http",
            "https://hooks.slack.com/services",
            "write \"https://hooks.slack.com:443\"",
        ),
        (
            "http",
            "https://hooks.slack.com:443/services",
            "write \"https://hooks.slack.com:443\"",
        ),
        ("http", "ftp://a:21", "write \"https://a:21\""),
        ("http", "https://u:p@a:443", "credentials are secrets"),
        (
            "http",
            "https://a.*.org:443",
            "write the host, `*.example.org`, or `*`",
        ),
        ("http", "https://a:0", "a number from 1 to 65535"),
        ("http", "https://a:70000", "a number from 1 to 65535"),
        ("http", "http://10.0.0.1/8:*", "10.0.0.0/8"),
        ("http", "http://a b:80", "names no host"),
        ("tcp", "https://a:1", "put it under `http`"),
        ("tcp", "/run/redis.sock", "write \"unix:/run/redis.sock\""),
        ("tcp", "unix:run/redis.sock", "absolute path"),
        ("tcp", "unix:/run/../etc/x", "absolute path"),
        ("tcp", "localhost", "has no port"),
        ("dns", "https://a", "write \"example.org\""),
    ] {
        let one = [line];
        let none: [&str; 0] = [];
        let got = rules(
            if key == "http" { &one } else { &none },
            if key == "tcp" { &one } else { &none },
            if key == "dns" { &one } else { &none },
        )
        .expect_err(line);
        let text = got[0].to_string();
        assert!(text.contains(want), "{text}");
        assert!(
            text.starts_with(&format!("grant `{key}`: \"{line}\" ")),
            "{text}"
        );
    }
}

#[test]
fn a_target_prints_the_line_that_covers_it() {
    for url in [
        "https://hooks.slack.com/a?b",
        "http://[::1]:9/",
        "http://127.0.0.1:8080/",
    ] {
        let target = http(url);
        let line = target.to_string();
        let rules = rules(&[&line], &[], &[]).expect("its own line parses");
        assert!(rules.covers(&target).is_some(), "{line}");
    }
    assert_eq!(
        http("https://hooks.slack.com/x").grant_line(),
        "http = [\"https://hooks.slack.com:443\"]"
    );
}

proptest::proptest! {
    /// Whatever parses as a host prints as one that parses to the same: what was checked is what is dialled.
    #[test]
    fn hosts_read_back_as_themselves(text in "[a-zA-Z0-9.:\\[\\]%_-]{1,30}") {
        if let Some(host) = Host::parse(&text) {
            proptest::prop_assert_eq!(Host::parse(&host.to_string()), Some(host));
        }
    }

    #[test]
    fn no_line_is_too_strange(line in ".{0,40}", rest in "[a-z0-9.:/*\\[\\]@-]{0,30}") {
        let strange = [line.as_str(), rest.as_str(), &format!("https://{rest}"), &format!("unix:{rest}")].map(str::to_owned);
        let grants = Grants { http: strange.to_vec(), tcp: strange.to_vec(), dns: strange.to_vec(), ..Grants::default() };
        let _ = Rules::parse(&grants);
    }
}
