//! The operator's template of the body (minijinja), tried out when the plugin is configured: a mistake is told then, not
//! when the first alert fires.

use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior};
use watchfire_plugin_sdk::{Alert, Error, Notification, Reason, Result, Severity, Timestamp};

use crate::document::Document;

/// A body with holes.
pub(crate) struct Template(Environment<'static>);

/// The one template of the environment.
const NAME: &str = "body";
/// What breaks JSON where a template forgets to quote.
const HOSTILE: &str = "a \"quote\", a \\ and a\nline break";

impl Template {
    pub(crate) fn new(source: &str) -> Result<Self> {
        if source.contains("{{secret:") {
            return Err(Error::config(
                "config.body: a secret cannot stand in the body: write it into config.url or config.headers",
            ));
        }
        let mut environment = Environment::new();
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        // A field that one alert lacks is empty, however deep; names at the top are checked below.
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        add_filters(&mut environment);
        environment
            .add_template_owned(NAME, source.to_owned())
            .map_err(|error| Error::config(format!("config.body: {error}")))?;
        let template = Template(environment);
        template.check_names()?;
        for notification in samples() {
            template.render(&Document::of(&notification))?;
        }
        Ok(template)
    }

    pub(crate) fn render(&self, document: &Document<'_>) -> Result<String> {
        let rendered = self
            .0
            .get_template(NAME)
            .and_then(|body| body.render(Serde(document)));
        rendered.map_err(|error| Error::config(format!("config.body: {error}")))
    }

    /// Refuses a template whose result is no JSON as soon as a text holds a quote.
    pub(crate) fn check_json(&self) -> Result<()> {
        for notification in samples() {
            let body = self.render(&Document::of(&notification))?;
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&body) {
                return Err(Error::config(format!(
                    "config.body: the result is no JSON ({error}) where a text holds quotes or line breaks: write \
                     {{{{ title | tojson }}}} without quotes around it, or set config.content_type to what the body is"
                )));
            }
        }
        Ok(())
    }

    fn check_names(&self) -> Result<()> {
        let template = self.0.get_template(NAME);
        let names = template.map(|body| body.undeclared_variables(false));
        let functions: Vec<&str> = self.0.globals().map(|(name, _)| name).collect();
        let unknown = names.unwrap_or_default().into_iter();
        let known = |name: &str| Document::KEYS.contains(&name) || functions.contains(&name);
        let mut unknown: Vec<String> = unknown.filter(|name| !known(name)).collect();
        unknown.sort();
        match unknown.first() {
            None => Ok(()),
            Some(name) => Err(Error::config(format!(
                "config.body: there is no {name:?}: write one of {}, or of an alert, like alerts[0].rule",
                Document::KEYS.join(", ")
            ))),
        }
    }
}

/// Jinja's own names for what a body needs.
fn add_filters(environment: &mut Environment<'_>) {
    environment.add_filter("tojson", |value: Value| {
        serde_json::to_string(&value).map_err(|error| {
            minijinja::Error::new(ErrorKind::BadSerialization, "no JSON").with_source(error)
        })
    });
    environment.add_filter("default", |value: Value, other: Value| {
        if value.is_undefined() || value.is_none() {
            other
        } else {
            value
        }
    });
    environment.add_filter("length", |value: Value| value.len().unwrap_or(0));
    environment.add_filter("upper", |value: &str| value.to_uppercase());
    environment.add_filter("lower", |value: &str| value.to_lowercase());
    environment.add_filter("replace", |value: &str, from: &str, to: &str| {
        value.replace(from, to)
    });
    environment.add_filter("truncate", |value: &str, max: usize| {
        watchfire_plugin_sdk::text::truncate(value, max).into_owned()
    });
}

/// One with everything, one with nothing.
fn samples() -> [Notification; 2] {
    let text = || HOSTILE.to_owned();
    let alert = |ended_at| Alert {
        fingerprint: "0".repeat(32),
        episode: 1,
        rule: text(),
        severity: Severity::High,
        labels: vec![("host".into(), text())],
        value: Some(0.5),
        limit: None,
        summary: text(),
        started_at: Timestamp(0),
        ended_at,
        extra: vec![("runbook".into(), text())],
    };
    let with = |reason, alerts| Notification {
        id: text(),
        dedup_key: text(),
        reason,
        alerts,
        title: text(),
        text: text(),
        extra: vec![("host".into(), text()), ("note".into(), text())],
    };
    let both = vec![alert(None), alert(Some(Timestamp(1000)))];
    [
        with(Reason::Group, both),
        with(Reason::Heartbeat, Vec::new()),
    ]
}
