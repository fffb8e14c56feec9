//! Interfaces and grants in plain words: what a component could do, cannot do, and would like to.

/// An interface of the host, or all of WASI.
#[derive(Debug, PartialEq)]
pub(super) struct Power {
    /// As in `watchfire:plugin/NAME`.
    pub(super) name: &'static str,
    /// What it lets a component do.
    pub(super) words: &'static str,
    /// Whether a grant decides over it.
    pub(super) by_grant: bool,
    /// The grants that it is good for.
    grants: &'static [&'static str],
}

const fn free(name: &'static str, words: &'static str) -> Power {
    Power {
        name,
        words,
        by_grant: false,
        grants: &[],
    }
}

const fn granted(
    name: &'static str,
    words: &'static str,
    grants: &'static [&'static str],
) -> Power {
    Power {
        name,
        words,
        by_grant: true,
        grants,
    }
}

/// All of them.
pub(super) const POWERS: [Power; 13] = [
    free("log", "write to the agent's log"),
    free("state", "keep a little of its own over restarts"),
    free("events", "write events to the history"),
    granted(
        "system",
        "read figures, processes and services of this host",
        &["system"],
    ),
    granted("files", "read files", &["files"]),
    granted("http", "make HTTP requests", &["http", "insecure"]),
    granted(
        "tcp",
        "open TCP connections and unix sockets",
        &["tcp", "insecure"],
    ),
    granted("dns", "ask name servers", &["dns"]),
    granted("mail", "send mail through the configured server", &["mail"]),
    granted("secrets", "read secrets in plain text", &["secrets"]),
    granted(
        "commands",
        "run commands that the configuration writes down",
        &["commands"],
    ),
    granted(
        "control",
        "control services, signal processes, delete files",
        &["services", "signals", "delete"],
    ),
    free(
        "wasi",
        "use the standard library: clocks, random numbers, output",
    ),
];

impl Power {
    /// Whether one of these imports gives it.
    pub(super) fn is_in(&self, imports: &[String]) -> bool {
        imports.iter().any(|import| {
            if self.name == "wasi" {
                return import.starts_with("wasi:");
            }
            let interface = import.strip_prefix("watchfire:plugin/");
            interface.is_some_and(|i| i.split('@').next() == Some(self.name))
        })
    }
}

/// One wish of a component, understood.
#[derive(Debug, PartialEq)]
pub(super) struct Wish {
    /// `make HTTP requests to https://hooks.slack.com:443`; text of a stranger.
    pub(super) words: String,
    /// What to think of before granting it; none: nothing out of the ordinary.
    pub(super) care: Option<&'static str>,
    /// The interface it would need is not imported: granting it changes nothing.
    pub(super) idle: bool,
}

/// Folders whose files are worth a second thought, and all that lies below them.
const PRIVATE: [&str; 5] = ["/etc", "/home", "/root", "/run", "/var/lib"];

impl Wish {
    /// Reads a wish as `description.wants` has it.
    pub(super) fn of(want: &str, imports: &[String]) -> Wish {
        let all: Vec<&str> = want.split_whitespace().collect();
        let (words, care) = match all.as_slice() {
            ["system"] => (
                "read figures, processes and services of this host".to_owned(),
                None,
            ),
            ["mail"] => ("send mail through the server of [mail]".to_owned(), None),
            ["insecure"] => (
                "skip the check of TLS certificates where it wants to".to_owned(),
                Some("whoever stands between can read and change what is sent"),
            ),
            ["http", to @ ..] if !to.is_empty() => (
                format!("make HTTP requests to {}", to.join(", ")),
                anyone(to),
            ),
            ["tcp", to @ ..] if !to.is_empty() => {
                (format!("open connections to {}", to.join(", ")), anyone(to))
            }
            ["dns", names @ ..] if !names.is_empty() => (
                format!("ask name servers for {}", names.join(", ")),
                names
                    .contains(&"*")
                    .then_some("names can carry data to anybody"),
            ),
            ["files", globs @ ..] if !globs.is_empty() => {
                let private = |glob: &&&str| {
                    let below = |folder: &str| {
                        let rest = glob.strip_prefix(folder);
                        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                    };
                    glob.starts_with("/*") || PRIVATE.iter().any(|folder| below(folder))
                };
                (
                    format!("read files: {}", globs.join(", ")),
                    globs
                        .iter()
                        .find(private)
                        .map(|_| "keys and personal data lie there"),
                )
            }
            ["commands", names @ ..] if !names.is_empty() => (
                format!("run {} of your [command] tables", names.join(", ")),
                Some("it adds arguments of its own"),
            ),
            ["secrets", name, to] => (
                format!("have the secret {name:?} filled in towards {to}"),
                None,
            ),
            ["secrets", name, to, "reveal"] => (
                format!("read the secret {name:?} itself, for use with {to}"),
                Some("what a component has read it can send wherever it may send anything"),
            ),
            ["services", units @ ..] if !units.is_empty() => (
                format!("control services: {}", units.join(", ")),
                Some("it changes this host"),
            ),
            ["signals", all @ ..] if !all.is_empty() => (
                format!("send signals: {}", all.join(", ")),
                Some("it changes this host"),
            ),
            ["delete", globs @ ..] if !globs.is_empty() => (
                format!("delete files: {}", globs.join(", ")),
                Some("it changes this host"),
            ),
            _ => (
                format!("{want:?}"),
                Some("there is no such grant: nothing can allow it"),
            ),
        };
        let name = all.first().copied().unwrap_or("");
        // The host fills secrets in where something is sent: no interface of its own is needed for that.
        let filled = name == "secrets" && all.len() == 3;
        let serves = |power: &Power| power.grants.contains(&name) && power.is_in(imports);
        let known = POWERS.iter().any(|power| power.grants.contains(&name));
        Wish {
            words,
            care,
            idle: known && !filled && !POWERS.iter().any(serves),
        }
    }
}

/// Lines that name anybody: a star for the host, or a network that holds everything.
fn anyone(lines: &[&str]) -> Option<&'static str> {
    let open = |line: &&str| {
        let host = line.split_once("://").map_or(*line, |(_, rest)| rest);
        host.starts_with('*') && !host.starts_with("*.") || host.contains("/0")
    };
    let found = lines.iter().any(open);
    found.then_some("that is anybody: it can send what it reads anywhere")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(want: &str, import: &str) -> Wish {
        let import = format!("watchfire:plugin/{import}@0.1.0");
        Wish::of(want, &[import])
    }

    #[test]
    fn imports_are_told_apart_by_interface() {
        let all = ["watchfire:plugin/http@0.1.0", "wasi:io/poll@0.2.6"].map(str::to_owned);
        let has: Vec<&str> = POWERS
            .iter()
            .filter(|power| power.is_in(&all))
            .map(|power| power.name)
            .collect();
        assert_eq!(has, ["http", "wasi"]);
    }

    #[test]
    fn wishes_become_sentences() {
        for (want, import, words) in [
            (
                "system",
                "system",
                "read figures, processes and services of this host",
            ),
            (
                "http https://a:443",
                "http",
                "make HTTP requests to https://a:443",
            ),
            ("tcp a:1 b:2", "tcp", "open connections to a:1, b:2"),
            (
                "files /var/log/*.log",
                "files",
                "read files: /var/log/*.log",
            ),
            (
                "secrets s a:443",
                "http",
                "have the secret \"s\" filled in towards a:443",
            ),
        ] {
            let wish = wish(want, import);
            assert_eq!((&*wish.words, wish.care, wish.idle), (words, None, false));
        }
    }

    #[test]
    fn what_deserves_a_second_thought_is_marked() {
        for (want, import) in [
            ("http https://*:443", "http"),
            ("http http://0.0.0.0/0:*", "http"),
            ("tcp *:22", "tcp"),
            ("dns *", "dns"),
            ("files /etc/shadow", "files"),
            ("files /**", "files"),
            ("secrets s a:443 reveal", "secrets"),
            ("insecure", "http"),
            ("commands NAME", "commands"),
            ("delete /tmp/*", "control"),
            ("root access", "http"),
        ] {
            assert!(wish(want, import).care.is_some(), "{want}");
        }
        for (want, import) in [
            ("http https://*.example.org:443", "http"),
            ("http http://10.0.0.0/8:*", "http"),
            ("files /etcetera/x", "files"),
        ] {
            assert_eq!(wish(want, import).care, None, "{want}");
        }
    }

    #[test]
    fn a_wish_without_its_interface_is_idle() {
        assert!(wish("files /var/log/x", "http").idle);
        assert!(wish("secrets s a:443 reveal", "http").idle);
        assert!(!wish("insecure", "tcp").idle);
        assert!(!wish("no such grant", "http").idle);
    }
}
