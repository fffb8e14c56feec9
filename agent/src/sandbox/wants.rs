//! From what a plugin asks for to the line that an operator could write.

use super::types::{Description, Grants};
use std::collections::BTreeMap;

/// Grants that are a list of strings.
const LISTS: [&str; 8] = [
    "commands", "delete", "dns", "files", "http", "services", "signals", "tcp",
];
/// Grants that are yes or no.
const FLAGS: [&str; 3] = ["insecure", "mail", "system"];

/// The `grant` line that allows all that `description.wants` asks for, ready to be pasted, with what
/// could not be understood as comments above it. Empty where the plugin asks for nothing.
///
/// Everything is quoted: the wishes are a stranger's text.
pub fn wants(description: &Description) -> String {
    let mut lists: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut unclear = Vec::new();
    for want in &description.wants {
        let mut words = want.split_whitespace();
        let name = words.next().unwrap_or("");
        let rest: Vec<&str> = words.collect();
        let lists_name = LISTS.into_iter().find(|list| *list == name);
        let flag = FLAGS.into_iter().find(|flag| *flag == name);
        match (lists_name, flag, rest.as_slice()) {
            (Some(list), _, [_, ..]) => {
                let values = rest.iter().map(|value| quoted(value));
                lists.entry(list).or_default().extend(values);
            }
            (_, Some(flag), []) => {
                lists.entry(flag).or_default();
            }
            _ if name == "secrets" => match rest.as_slice() {
                [secret, to] => lists.entry("secrets").or_default().push(format!(
                    "{} = {}",
                    quoted(secret),
                    quoted(to)
                )),
                [secret, to, "reveal"] => lists.entry("secrets").or_default().push(format!(
                    "{} = {{ to = {}, reveal = true }}",
                    quoted(secret),
                    quoted(to)
                )),
                _ => unclear.push(want),
            },
            _ => unclear.push(want),
        }
    }
    let mut text = String::new();
    for want in unclear {
        text += &format!("# it also asks for {}\n", quoted(want));
    }
    if lists.is_empty() {
        return text;
    }
    let grants: Vec<String> = lists
        .iter()
        .map(|(name, values)| match *name {
            "secrets" => format!("secrets = {{ {} }}", values.join(", ")),
            flag if FLAGS.contains(&flag) => format!("{flag} = true"),
            list => format!("{list} = [{}]", values.join(", ")),
        })
        .collect();
    text + &format!("grant = {{ {} }}\n", grants.join(", "))
}

/// Wishes of which nothing at all is granted: no `http` line for one that asks for `http`. Which lines an
/// operator writes is the operator's choice; wishes of plugins for any purpose are examples.
pub fn unmet<'w>(wants: &'w [String], grants: &Grants) -> Vec<&'w str> {
    let has_some = |name: &str| match name {
        "commands" => !grants.commands.is_empty(),
        "delete" => !grants.delete.is_empty(),
        "dns" => !grants.dns.is_empty(),
        "files" => !grants.files.is_empty(),
        "http" => !grants.http.is_empty(),
        "insecure" => grants.insecure,
        "mail" => grants.mail,
        "secrets" => !grants.secrets.is_empty(),
        "services" => !grants.services.is_empty(),
        "signals" => !grants.signals.is_empty(),
        "system" => grants.system,
        "tcp" => !grants.tcp.is_empty(),
        // Nobody can grant what does not exist.
        _ => true,
    };
    let unmet = |want: &&str| !has_some(want.split_whitespace().next().unwrap_or(""));
    wants.iter().map(String::as_str).filter(unmet).collect()
}

/// A TOML string; control characters are escaped, so it is safe to print, too.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => quoted += &format!("\\u{:04X}", u32::from(letter)),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(wants_for: &[&str]) -> String {
        wants(&Description {
            wants: wants_for.iter().map(|want| (*want).to_owned()).collect(),
            ..Description::default()
        })
    }

    #[test]
    fn wishes_become_one_line() {
        assert_eq!(asked(&[]), "");
        assert_eq!(
            asked(&[
                "system",
                "http https://a.example:443",
                "http https://b.example:443",
                "secrets slack a.example",
            ]),
            "grant = { http = [\"https://a.example:443\", \"https://b.example:443\"], secrets = { \"slack\" = \"a.example\" }, system = true }\n"
        );
        assert_eq!(
            asked(&["secrets db 127.0.0.1:5432 reveal"]),
            "grant = { secrets = { \"db\" = { to = \"127.0.0.1:5432\", reveal = true } } }\n"
        );
    }

    #[test]
    fn a_wish_is_unmet_where_nothing_of_its_kind_is_granted() {
        let wants = ["http https://example.org:443", "http x", "system", "magic"];
        let wants = wants.map(str::to_owned);
        let none = Grants::default();
        assert_eq!(unmet(&wants, &none), &wants[..3]);
        let some = Grants {
            http: vec!["http://127.0.0.1:80".to_owned()],
            ..Grants::default()
        };
        assert_eq!(unmet(&wants, &some), ["system"]);
    }

    #[test]
    fn what_is_not_understood_is_shown_and_harmless() {
        assert_eq!(
            asked(&["root access\x1b[31m\nsystem = true", "http"]),
            "# it also asks for \"root access\\u001B[31m\\u000Asystem = true\"\n# it also asks for \"http\"\n"
        );
    }
}
