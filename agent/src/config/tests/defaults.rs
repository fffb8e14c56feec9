//! What holds where nothing is said, and that what is said arrives.

use super::super::{Aggregate, Environment, LogFormat};
use super::{environment, good, load_text};
use crate::config::{from_texts, load};
use crate::sandbox::types::{Kind, MailTls, SecretSource};
use std::path::{Path, PathBuf};
use std::time::Duration;
use watchfire_engine::model::Severity;
use watchfire_engine::policy::{Mode, OnMissing, Operator, RuleSource};

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

#[test]
fn an_empty_file_has_the_defaults_of_the_documents() {
    let config = good("").config;
    assert_eq!(&*config.agent.host, "box");
    assert_eq!(config.agent.labels.get("host"), Some("box"));
    assert_eq!(
        config.agent.plugins_dir,
        Path::new("/home/me/.local/state/watchfire/plugins")
    );
    assert_eq!(config.api.listen.unwrap().to_string(), "127.0.0.1:9465");
    assert_eq!(
        config.api.socket,
        Path::new("/home/me/.local/state/watchfire/watchfire.sock")
    );
    assert_eq!(
        (config.log.format, config.log.level),
        (LogFormat::Text, tracing::Level::INFO)
    );
    assert_eq!(config.retention.alerts, secs(180 * 86_400));
    assert_eq!(config.retention.metrics, secs(30 * 86_400));
    assert_eq!(config.retention.rollups, secs(180 * 86_400));
    assert_eq!(config.retention.metrics_bytes_max, 512 << 20);
    assert_eq!(
        (config.defaults.every, config.defaults.timeout),
        (secs(10), secs(5))
    );
    let policy = &config.policy;
    assert_eq!(policy.alerting, Default::default());
    assert_eq!(policy.delivery, Default::default());
    assert_eq!(policy.recover, Default::default());
    let [route] = policy.routes.as_slice() else {
        panic!("{:?}", policy.routes)
    };
    assert_eq!(route.notify[0].to_string(), "log");
    assert_eq!(&*route.group_by[0], "rule");
    assert_eq!(
        (route.group_wait, route.group_interval),
        (secs(10), secs(60))
    );
    assert_eq!(
        route.repeat.0,
        [secs(43_200), secs(43_200), secs(14_400), secs(3_600)]
    );
    assert_eq!(config.limits("x", Kind::Probe).wall, secs(5));
}

#[test]
fn root_and_the_environment_decide_about_folders() {
    let root = Environment {
        root: true,
        ..environment()
    };
    assert_eq!(root.data_dir(), Path::new("/var/lib/watchfire"));
    let mut xdg = environment();
    xdg.variables
        .insert("XDG_STATE_HOME".into(), "/state".into());
    xdg.variables
        .insert("XDG_CONFIG_HOME".into(), "/conf".into());
    assert_eq!(xdg.data_dir(), Path::new("/state/watchfire"));
    assert_eq!(
        xdg.configuration_files(),
        [
            "/nowhere/watchfire.toml",
            "/conf/watchfire/watchfire.toml",
            "/etc/watchfire/watchfire.toml"
        ]
        .map(PathBuf::from)
    );
    let long = format!("[agent]\ndata_dir = \"/{}\"\n", "d".repeat(120));
    assert!(
        load_text(&long).is_err(),
        "a socket path that is too long is refused"
    );
    xdg.variables
        .insert("XDG_RUNTIME_DIR".into(), "/run/user/1".into());
    let config = from_texts(&[("/w.toml".into(), long.into())], &xdg)
        .unwrap()
        .config;
    assert_eq!(config.api.socket, Path::new("/run/user/1/watchfire.sock"));
}

#[test]
fn a_rule_about_missing_series_alone_needs_no_limit() {
    let judge = |keys: &str| {
        let loaded = good(&format!("[[rule]]\nid = \"r\"\nmetric = \"m\"\n{keys}\n"));
        loaded.config.rules[0].plugin.clone().expect("a plugin")
    };
    for keys in [
        "absent = \"60s\"",
        "on_missing = \"breach\"",
        "absent = \"60s\"\nconfig = {}",
    ] {
        assert_eq!(&*judge(keys), "rule-presence", "{keys}");
    }
    for keys in [
        "",
        "on_missing = \"ok\"",
        "absent = \"60s\"\nconfig = { above = { warning = 1 } }",
        "absent = \"60s\"\nplugin = \"rule-threshold\"",
    ] {
        assert_eq!(&*judge(keys), "rule-threshold", "{keys}");
    }
}

#[test]
fn a_rule_has_the_defaults_of_the_documents() {
    let loaded = good(
        "[[rule]]\nid = \"r\"\nmetric = \"m\"\n[[rule]]\nid = \"w\"\nmetric = \"m\"\nover = \"5m\"\nkeep = { high = \"5m\" }\nfor = \"1m\"\n[[rule]]\nid = \"c\"\nnone = [\"r\", \"w\"]\n",
    );
    let (rules, policies) = (&loaded.config.rules, &loaded.config.policy.rules);
    assert_eq!(rules[0].plugin.as_deref(), Some("rule-threshold"));
    assert_eq!(rules[0].config.as_ref(), "{}");
    assert_eq!(rules[0].origin, "/etc/wf/w.toml:2");
    let input = &rules[0].inputs[0];
    assert_eq!(
        (&*input.name, input.over, input.aggregate),
        ("value", None, Aggregate::Last)
    );
    assert_eq!(rules[1].inputs[0].aggregate, Aggregate::Avg);
    assert_eq!(policies[0].wait.0, [Duration::ZERO; 4]);
    assert_eq!(
        policies[0].keep.0,
        [secs(60), secs(60), secs(120), secs(120)]
    );
    assert_eq!(policies[0].severity, Severity::Critical);
    assert_eq!(policies[0].on_missing, OnMissing::Keep);
    assert_eq!(policies[1].wait.0, [secs(60); 4]);
    assert_eq!(
        policies[1].keep.0,
        [secs(60), secs(60), secs(300), secs(120)]
    );
    assert_eq!(rules[2].plugin, None);
    let RuleSource::Composite { operator, rules } = &policies[2].source else {
        panic!()
    };
    assert_eq!((*operator, rules.len()), (Operator::None, 2));
}

#[test]
fn what_is_written_arrives() {
    let texts = [(
        PathBuf::from("/etc/wf/w.toml"),
        include_str!("../../../../config/watchfire.toml").into(),
    )];
    let loaded = from_texts(&texts, &environment()).unwrap();
    let config = loaded.config;
    assert_eq!(config.agent.data_dir, Path::new("/etc/wf/data"));
    assert_eq!(config.agent.labels.get("env"), Some("prod"));
    assert_eq!(
        config.secrets["slack"],
        SecretSource::Env("SLACK_WEBHOOK_URL".into())
    );
    assert_eq!(config.commands["reload-nginx"].argv[2], "reload");
    assert_eq!(config.mail.as_ref().unwrap().tls, MailTls::StartTls);
    assert_eq!(config.plugins["probe-json"].sha256.unwrap()[0], 0xe3);
    let queue = &config.probes[1];
    assert_eq!(queue.adaptive.unwrap().max, secs(60));
    let json: serde_json::Value = serde_json::from_str(&queue.config).unwrap();
    assert_eq!(json["samples"][0]["metric"], "queue_size");
    let redis = &config.probes[2].grant;
    assert!(redis.secrets["redis"].reveal);
    let rule = config
        .rules
        .iter()
        .find(|rule| rule.id.as_str() == "queue-long")
        .unwrap();
    let queue = rule.inputs[0]
        .matches
        .iter()
        .find(|m| &*m.name == "queue")
        .unwrap();
    assert!(queue.any_of[0].matches("orders-eu") && !queue.any_of[0].matches("my-orders"));
    let policy = &config.policy;
    assert_eq!(
        policy.rules[0].wait.0,
        [secs(0), secs(300), secs(0), secs(60)]
    );
    assert_eq!(policy.rules[0].max_instances, 100);
    let route = &policy.routes[0];
    assert!(route.carry_on && route.escalate[0].notify[0].to_string() == "manager");
    assert_eq!(route.matcher.severity, [Severity::High, Severity::Critical]);
    assert!(route.matcher.labels[0].any_of[0].matches("staging"));
    assert_eq!(
        policy.delivery.fallback.as_ref().unwrap().as_str(),
        "manager"
    );
    assert_eq!(policy.procedures[0].mode, Mode::Observe);
    assert_eq!(policy.procedures[0].rules[0].as_str(), "queue-long");
}

/// What the rule tests of product.md section 6 switch off: waits, repeats, flapping, jitter.
#[test]
fn everything_that_waits_can_be_switched_off() {
    let config = good(
        "[defaults]\nevery = \"10s\"\n\
         [alerting]\nstale_after = \"25s\"\ngone_after = 3\nkeep = \"0s\"\nmeta_keep = \"0s\"\nflapping = false\n\
         [delivery]\nfactor = 2\njitter = 0\n\
         [recover]\nper_hour = 1000\nboot_grace = \"0s\"\n\
         [[notifier]]\nid = \"default\"\nplugin = \"x\"\n\
         [[route]]\nnotify = [\"default\"]\ngroup_by = []\ngroup_wait = \"0s\"\ngroup_interval = \"0s\"\nrepeat = { warning = \"0s\", critical = \"0s\" }\n\
         [[rule]]\nid = \"pay\"\nmetric = \"fails\"\nover = \"900s\"\naggregate = \"increase\"\nconfig = { at_least = { warning = 3, critical = 10 } }\n",
    )
    .config;
    let policy = &config.policy;
    assert_eq!(policy.alerting.flapping, None);
    assert_eq!(policy.alerting.stale_after, Some(secs(25)));
    assert_eq!(policy.rules[0].keep.0, [Duration::ZERO; 4]);
    assert_eq!(policy.rules[0].at_least, None);
    assert_eq!((policy.delivery.factor, policy.delivery.jitter), (2.0, 0.0));
    assert_eq!(policy.recover.boot_grace, Duration::ZERO);
    let route = &policy.routes[0];
    assert!(route.group_by.is_empty() && route.group_wait.is_zero());
    assert_eq!(route.repeat[Severity::Critical], Duration::ZERO);
    assert_eq!(route.repeat[Severity::High], secs(14_400));
}

#[test]
fn without_a_route_every_notifier_but_the_fallback_hears() {
    let names = |text: &str| -> Vec<String> {
        let config = good(text).config;
        config.policy.routes[0]
            .notify
            .iter()
            .map(|n| n.to_string())
            .collect()
    };
    let two =
        "[[notifier]]\nid = \"a\"\nplugin = \"x\"\n[[notifier]]\nid = \"b\"\nplugin = \"x\"\n";
    assert_eq!(names(two), ["a", "b"]);
    assert_eq!(
        names(&format!("{two}[delivery]\nfallback = \"b\"\n")),
        ["a"]
    );
    assert_eq!(
        names(&format!("{two}[[route]]\nnotify = [\"log\"]\n")),
        ["log"]
    );
}

#[test]
fn a_rule_of_a_pack_yields_to_one_of_the_operator() {
    let loaded = good(
        "[agent]\npacks = [\"host\"]\n[[probe]]\nid = \"h\"\nplugin = \"probe-host\"\n[[rule]]\nid = \"host-cpu-high\"\nmetric = \"cpu_usage_ratio\"\nconfig = { above = { low = 0.5 } }\n",
    );
    let own: Vec<_> = loaded
        .config
        .rules
        .iter()
        .filter(|rule| rule.id.as_str() == "host-cpu-high")
        .collect();
    assert_eq!(own.len(), 1);
    assert!(own[0].config.contains("0.5"));
    assert_eq!(
        loaded.config.rules[0].id.as_str(),
        "host-cpu-high",
        "own rules come before packs"
    );
    assert_eq!(loaded.config.policy.rules[0].probes[0].as_str(), "h");
}

#[test]
fn includes_join_tables_and_lists_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    write(
        "watchfire.toml",
        "[agent]\ninclude = [\"conf.d/*.toml\"]\n[[rule]]\nid = \"m\"\nmetric = \"x\"\n",
    );
    write(
        "conf.d/b.toml",
        "[[rule]]\nid = \"b\"\nmetric = \"x\"\n[log]\nlevel = \"debug\"\n",
    );
    write(
        "conf.d/a.toml",
        "[[rule]]\nid = \"a\"\nmetric = \"x\"\n[agent]\ndata_dir = \"d\"\n[log]\nformat = \"json\"\n",
    );
    let environment = Environment {
        cwd: folder.path().to_owned(),
        ..environment()
    };
    let config = load(None, &environment).unwrap().config;
    let ids: Vec<_> = config
        .rules
        .iter()
        .map(|rule| rule.id.to_string())
        .collect();
    assert_eq!(ids, ["m", "a", "b"]);
    assert_eq!(
        config.agent.data_dir,
        folder.path().join("conf.d/d"),
        "relative to the file it stands in"
    );
    assert_eq!(
        (config.log.format, config.log.level),
        (LogFormat::Json, tracing::Level::DEBUG)
    );
    assert_eq!(config.source.files.len(), 3);
    assert_eq!(
        config.source.watch,
        [folder.path().to_owned(), folder.path().join("conf.d")]
    );
    // The texts alone give the same configuration, whatever happens to the files.
    drop(folder);
    let again = from_texts(&config.source.texts, &environment)
        .unwrap()
        .config;
    assert_eq!(again.source.digest, config.source.digest);
    assert!(crate::config::diff(&config, &again).is_empty());
}
