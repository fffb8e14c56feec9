//! What the operator allowed one use of a plugin. The plugin only asks (`description.wants`); this decides.

use std::collections::BTreeMap;

/// The `grant` table of a probe, notifier or recovery. Empty by default: nothing is allowed.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct Grants {
    /// `system = true`.
    pub system: bool,
    /// `http = ["https://hooks.slack.com:443", "http://127.0.0.1:*", "https://*.example.org:443", "http://10.0.0.0/8:*"]`.
    pub http: Vec<String>,
    /// `tcp = ["127.0.0.1:6379", "unix:/run/redis.sock"]`.
    pub tcp: Vec<String>,
    /// `dns = ["example.org"]` or `["*"]`.
    pub dns: Vec<String>,
    /// `files = ["/var/log/*.log"]`: globs, read only.
    pub files: Vec<String>,
    /// `mail = true`: the server of `[mail]`.
    pub mail: bool,
    /// `commands = ["name"]`: names of `[command.NAME]`.
    pub commands: Vec<String>,
    /// `secrets = { slack = "hooks.slack.com" }` or `{ db = { to = "127.0.0.1:5432", reveal = true } }`.
    pub secrets: BTreeMap<String, SecretGrant>,
    /// `services = ["nginx.service:restart"]`: unit and verb; only actions.
    pub services: Vec<String>,
    /// `signals = ["nginx:TERM"]`: process name and signal; only actions.
    pub signals: Vec<String>,
    /// `delete = ["/var/tmp/app/*.tmp"]`: globs; only actions.
    pub delete: Vec<String>,
    /// `insecure = true`: TLS without verification where the plugin asks for it.
    pub insecure: bool,
}

impl Grants {
    /// What is allowed, one phrase a grant, as `http https://hooks.slack.com:443` or `system`.
    pub fn lines(&self) -> Vec<String> {
        let flags = [
            ("system", self.system),
            ("mail", self.mail),
            ("insecure", self.insecure),
        ];
        let lists = [
            ("http", &self.http),
            ("tcp", &self.tcp),
            ("dns", &self.dns),
            ("files", &self.files),
            ("commands", &self.commands),
            ("services", &self.services),
            ("signals", &self.signals),
            ("delete", &self.delete),
        ];
        let mut lines: Vec<String> = flags
            .into_iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| name.to_owned())
            .collect();
        for (name, values) in lists {
            lines.extend(values.iter().map(|value| format!("{name} {value}")));
        }
        for (name, secret) in &self.secrets {
            let reveal = if secret.reveal { " reveal" } else { "" };
            lines.push(format!("secrets {name} {}{reveal}", secret.to));
        }
        lines
    }
}

/// Where one secret may go.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct SecretGrant {
    /// `host` or `host:port`.
    pub to: String,
    /// Whether the guest itself may read it (protocols that compute with a secret).
    pub reveal: bool,
}
