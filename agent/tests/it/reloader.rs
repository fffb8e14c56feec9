//! Hot reload against real files, real components, the real compiling child.

use crate::support::bed::{Bed, rule, sha256_of, version};
use std::cell::Cell;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use watchfire::plugin::watch::QUIET;
use watchfire::plugin::{UseState, stock};

/// The component that the tests drop in under other names.
fn threshold() -> &'static [u8] {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| {
        stock::find("rule-threshold")
            .expect("a stock plugin")
            .bytes()
    })
}

/// A component without imports and exports: valid, and of no world of ours.
const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// The rule `mine`, judged by the component `rule-mine`.
fn mine() -> String {
    rule("mine", "rule-mine", 90)
}

/// A bed whose rule `mine` runs the dropped-in `rule-mine`, version 1.
async fn running() -> Bed {
    let bed = Bed::new(&mine()).with_plugin("rule-mine", &version(threshold(), 1));
    bed.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_in_component_serves_within_two_seconds() {
    let mut bed = Bed::new(&mine()).start().await;
    assert!(matches!(bed.state_of("mine"), UseState::Waiting(_)));
    let dropped = Instant::now();
    bed.drop_in("rule-mine", &version(threshold(), 1));
    bed.until(|now| now.rules.len() == 1).await;
    // An unoptimised compiler needs longer than everything else together.
    if !cfg!(debug_assertions) {
        assert!(dropped.elapsed() < Duration::from_secs(2));
    }
    assert_eq!(bed.state_of("mine"), UseState::Running);
    println!(
        "dropped in, compiled, serving after {:?}",
        dropped.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_good_changes_nothing_is_told_and_heals() {
    let half = threshold()[..threshold().len() / 2].to_vec();
    for (what, bytes, reason) in [
        (
            "garbage",
            b"this is no component".to_vec(),
            "no WebAssembly component",
        ),
        ("truncated", half, "does not compile"),
        ("wrong world", EMPTY_COMPONENT.to_vec(), "exports none of"),
        ("empty", Vec::new(), "the file is empty"),
    ] {
        let mut bed = running().await;
        let before = bed.now();
        bed.drop_in("rule-mine", &bytes);
        bed.until(|now| now.plugins.rejection("rule-mine").is_some())
            .await;
        let after = bed.now();
        assert!(Arc::ptr_eq(&before.rules[0], &after.rules[0]), "{what}");
        let rejection = after.plugins.rejection("rule-mine").expect("rejected");
        assert!(
            rejection.reason.contains(reason),
            "{what}: {}",
            rejection.reason
        );
        let summary = bed.until_condition("watchfire_plugin_rejected", true).await;
        assert!(summary.starts_with("running "), "{what}: {summary}");
        bed.until_events("plugin_rejected", 1).await;

        // The same refused bytes once more are no news.
        let number = after.number;
        bed.drop_in("rule-mine", &bytes);
        let report = bed.looked_again().await;
        assert_eq!(report, number, "{what}");

        // The version that runs comes back: nothing to load, nothing to prove.
        bed.drop_in("rule-mine", &version(threshold(), 1));
        bed.until(|now| now.plugins.rejection("rule-mine").is_none())
            .await;
        bed.until_condition("watchfire_plugin_rejected", false)
            .await;
        assert!(Arc::ptr_eq(&before.rules[0], &bed.now().rules[0]), "{what}");
        bed.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_serves_within_half_a_second_and_the_old_one_ends_with_its_calls() {
    let mut bed = running().await;
    let before = bed.now();
    let mut fastest = Duration::MAX;
    for round in 2..5 {
        let closed = Instant::now();
        let new = version(threshold(), round);
        bed.drop_in("rule-mine", &new);
        let sha256 = sha256_of(&new);
        bed.until(|now| now.rules[0].sha256 == sha256).await;
        fastest = fastest.min(closed.elapsed());
    }
    println!("closed to serving, fastest of three: {fastest:?}");
    if !cfg!(debug_assertions) {
        assert!(fastest < Duration::from_millis(500));
    }
    assert!(!Arc::ptr_eq(&before.rules[0], &bed.now().rules[0]));
    let needs = before.rules[0].rule.configure(&["value".to_owned()]).await;
    assert!(needs.is_ok(), "the old version still answers: {needs:?}");
    bed.until_events("plugin_reloaded", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_completed_within_a_second_is_never_refused() {
    let mut bed = running().await;
    let new = version(threshold(), 2);
    let compilations = bed.compilations();
    bed.drop_in("rule-mine", &new[..new.len() / 3]);
    // Until the half has been looked at: its compilation fails, and the verdict waits.
    bed.until_compilations(compilations + 1).await;
    bed.drop_in("rule-mine", &new);
    let sha256 = sha256_of(&new);
    bed.until(|now| now.rules[0].sha256 == sha256).await;
    bed.looked_again().await;
    assert_eq!(bed.events("plugin_rejected"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rewriting_the_same_bytes_is_no_reload() {
    let mut bed = running().await;
    let before = bed.now();
    let compilations = bed.compilations();
    bed.drop_in("rule-mine", &version(threshold(), 1));
    assert_eq!(bed.looked_again().await, before.number);
    assert!(Arc::ptr_eq(&before, &bed.now()));
    assert_eq!(bed.compilations(), compilations);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_file_keeps_running_and_comes_back_without_a_reload() {
    let mut bed = running().await;
    let before = bed.now();
    bed.remove("rule-mine");
    bed.until(|now| now.plugins.plugins["rule-mine"].removed)
        .await;
    assert!(Arc::ptr_eq(&before.rules[0], &bed.now().rules[0]));
    bed.drop_in("rule-mine", &version(threshold(), 1));
    bed.until(|now| !now.plugins.plugins["rule-mine"].removed)
        .await;
    assert!(Arc::ptr_eq(&before.rules[0], &bed.now().rules[0]));
    bed.until_events("plugin_removed", 1).await;
    bed.until_events("plugin_restored", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swapped_link_is_followed() {
    let bed = Bed::new(&mine());
    let folder = bed.plugins();
    for round in [1, 2] {
        let inside = folder.join(format!("..{round}"));
        std::fs::create_dir(&inside).expect("made");
        bed.write(&inside.join("rule-mine.wasm"), &version(threshold(), round));
    }
    symlink("..1", folder.join("..data")).expect("linked");
    symlink("..data/rule-mine.wasm", folder.join("rule-mine.wasm")).expect("linked");
    let mut bed = bed.start().await;
    assert_eq!(bed.state_of("mine"), UseState::Running);
    symlink("..2", folder.join("..tmp")).expect("linked");
    std::fs::rename(folder.join("..tmp"), folder.join("..data")).expect("swapped");
    let sha256 = sha256_of(&version(threshold(), 2));
    bed.until(|now| now.rules[0].sha256 == sha256).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_others_can_write_is_refused() {
    let mut bed = Bed::new(&mine()).start().await;
    bed.drop_in("rule-mine", &version(threshold(), 1));
    bed.until(|now| now.rules.len() == 1).await;
    bed.until_condition("watchfire_plugin_rejected", false)
        .await;
    bed.chmod("rule-mine", 0o666);
    bed.until(|now| now.plugins.rejection("rule-mine").is_some())
        .await;
    assert_eq!(bed.now().rules.len(), 1, "what was read before goes on");
    let reason = bed.until_condition("watchfire_plugin_rejected", true).await;
    assert!(reason.contains("chmod go-w"), "{reason}");
    bed.chmod("rule-mine", 0o644);
    bed.until_condition("watchfire_plugin_rejected", false)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_one_rule_leaves_the_other_as_it_is() {
    let other = rule("other", "rule-threshold", 1);
    let with = |above| rule("mine", "rule-threshold", above) + &other;
    let mut bed = Bed::new(&with(90)).start().await;
    let before = bed.now();
    let closed = Instant::now();
    bed.configure(&with(80));
    bed.until(|now| now.rules[0].config.config.contains("80"))
        .await;
    println!("configuration closed to serving: {:?}", closed.elapsed());
    let after = bed.now();
    assert!(!Arc::ptr_eq(&before.rules[0], &after.rules[0]));
    assert!(Arc::ptr_eq(&before.rules[1], &after.rules[1]));

    // The line it stands in is no part of a rule.
    bed.configure(&format!("\n\n{}", with(70)));
    bed.until(|now| now.rules[0].config.config.contains("70"))
        .await;
    assert!(Arc::ptr_eq(&before.rules[1], &bed.now().rules[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_configuration_changes_nothing_says_where_and_heals() {
    let good = rule("mine", "rule-threshold", 90);
    let mut bed = Bed::new(&good).start().await;
    let before = bed.now();
    bed.configure(&good.replace("\"m\"", "3"));
    let summary = bed.until_condition("watchfire_config_invalid", true).await;
    assert!(summary.contains("watchfire.toml:9:10: "), "{summary}");
    assert!(Arc::ptr_eq(&before, &bed.now()));

    // A restart on the broken file runs the last good configuration, and still says so.
    let mut bed = bed.restart().await;
    assert_eq!(bed.state_of("mine"), UseState::Running);
    let again = bed.until_condition("watchfire_config_invalid", true).await;
    assert_eq!(again, summary);
    let before = bed.now();
    bed.configure(&good);
    bed.until_condition("watchfire_config_invalid", false).await;
    assert!(Arc::ptr_eq(&before, &bed.now()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_its_plugin_refuses_refuses_the_whole_configuration() {
    let good = rule("mine", "rule-threshold", 90);
    let mut bed = Bed::new(&good).start().await;
    let before = bed.now();
    let wrong = rule("new", "rule-threshold", 1).replace("above", "abov");
    bed.configure(&(rule("mine", "rule-threshold", 80) + &wrong));
    let summary = bed.until_condition("watchfire_config_invalid", true).await;
    assert!(
        summary.contains("watchfire.toml:13: rule \"new\": configure failed"),
        "{summary}"
    );
    assert!(Arc::ptr_eq(&before.rules[0], &bed.now().rules[0]));
    assert_eq!(bed.now().rules.len(), 1);
    bed.configure(&good);
    bed.until_condition("watchfire_config_invalid", false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_and_the_table_for_it_arrive_together() {
    let mut bed = running().await;
    bed.configure(&rule("mine", "rule-new", 1));
    bed.until(|now| matches!(now.status[0].state, UseState::Waiting(_)))
        .await;
    assert!(
        bed.now().rules.is_empty(),
        "its own table changed, so nothing stands in for it"
    );
    bed.drop_in("rule-new", &version(threshold(), 7));
    bed.until(|now| now.rules.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_waits_for_its_plugin_is_told_until_it_comes_or_the_table_goes() {
    let mut bed = running().await;
    let both = format!(
        "{}{}",
        rule("mine", "rule-treshold", 1),
        rule("other", "rule-treshold", 1)
    );
    bed.configure(&both);
    let summary = bed.until_condition("watchfire_plugin_rejected", true).await;
    assert!(
        summary.starts_with("rule \"mine\", rule \"other\" wait for plugin \"rule-treshold\": ")
            && summary.ends_with("; did you mean \"rule-threshold\"?"),
        "{summary}"
    );
    let UseState::Waiting(reason) = bed.state_of("mine") else {
        panic!("a table without its plugin waits");
    };
    assert!(
        reason.ends_with("did you mean \"rule-threshold\"?"),
        "{reason}"
    );
    bed.configure(&mine());
    bed.until_condition("watchfire_plugin_rejected", false)
        .await;

    // The same after a restart, until the plugin comes.
    bed.configure(&rule("mine", "rule-new", 1));
    bed.until_condition("watchfire_plugin_rejected", true).await;
    let mut bed = bed.restart().await;
    let summary = bed.until_condition("watchfire_plugin_rejected", true).await;
    assert!(
        summary.contains("waits for plugin \"rule-new\""),
        "{summary}"
    );
    assert!(watchfire::plugin::notice::is_amiss(&bed.now(), "rule-new"));
    assert!(!watchfire::plugin::notice::is_amiss(
        &bed.now(),
        "rule-mine"
    ));
    bed.drop_in("rule-new", &version(threshold(), 7));
    bed.until(|now| now.rules.len() == 1).await;
    assert!(!watchfire::plugin::notice::is_amiss(&bed.now(), "rule-new"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_holds_back_every_other_version() {
    let one = version(threshold(), 1);
    let pin = watchfire::plugin::hex(&sha256_of(&one));
    let config = format!("{}[plugin.rule-mine]\nsha256 = \"{pin}\"\n", mine());
    let mut bed = Bed::new(&config)
        .with_plugin("rule-mine", &one)
        .start()
        .await;
    let two = version(threshold(), 2);
    bed.drop_in("rule-mine", &two);
    let summary = bed.until_condition("watchfire_plugin_rejected", true).await;
    assert!(summary.contains("[plugin.rule-mine]"), "{summary}");
    assert_eq!(bed.now().rules[0].sha256, sha256_of(&one));
    let pin = watchfire::plugin::hex(&sha256_of(&two));
    bed.configure(&format!(
        "{}[plugin.rule-mine]\nsha256 = \"{pin}\"\n",
        mine()
    ));
    bed.until(|now| now.rules[0].sha256 == sha256_of(&two))
        .await;
    bed.until_condition("watchfire_plugin_rejected", false)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_takes_its_code_from_the_cache_and_a_flipped_bit_compiles_again() {
    let compiled = |bed: &Bed| {
        let now = bed.now();
        let running = now.plugins.running("rule-mine").expect("running");
        running.compile_time.is_some()
    };
    let bed = running().await;
    assert!(compiled(&bed));
    let bed = bed.restart().await;
    assert!(!compiled(&bed));
    for artefact in std::fs::read_dir(bed.data().join("code")).expect("listed") {
        let path = artefact.expect("listed").path();
        let mut bytes = std::fs::read(&path).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("flipped");
    }
    let bed = bed.restart().await;
    assert!(compiled(&bed));
    assert_eq!(bed.state_of("mine"), UseState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_drop_in_leaves_the_stock_plugin_its_place() {
    let mut bed = Bed::new(&rule("mine", "rule-threshold", 90))
        .with_plugin("rule-threshold", b"garbage")
        .start()
        .await;
    assert_eq!(bed.state_of("mine"), UseState::Running);
    assert!(bed.now().plugins.rejection("rule-threshold").is_some());
    let own = version(threshold(), 3);
    bed.drop_in("rule-threshold", &own);
    bed.until(|now| now.rules[0].sha256 == sha256_of(&own))
        .await;
    assert!(bed.now().plugins.rejection("rule-threshold").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_without_a_table_runs_under_its_files_name_with_defaults_and_no_grants() {
    let probe = &stock::find("probe-host").expect("a stock plugin").bytes();
    let mut bed = Bed::new("").start().await;
    bed.drop_in("own-probe", &version(probe, 1));
    // It asks for `system`, and nobody grants it: the trial says so before anything runs.
    let reason = bed.until_condition("watchfire_plugin_rejected", true).await;
    assert!(reason.contains("a trial collection failed"), "{reason}");
    assert!(reason.contains("system"), "{reason}");
    assert!(bed.now().probes.is_empty());

    // The table that the refusal asks for is all it takes.
    bed.configure("[[probe]]\nid = \"own\"\nplugin = \"own-probe\"\ngrant = { system = true }\nconfig = { families = [\"load\"] }\n");
    bed.until(|now| now.probes.len() == 1).await;
    bed.until_condition("watchfire_plugin_rejected", false)
        .await;
    let now = bed.now();
    assert_eq!(now.probes[0].config.id.as_str(), "own");
    let (collected, _) = now.probes[0].probe.collect().await;
    assert!(collected.is_ok_and(|collected| !collected.families.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_files_makes_few_looks_and_loses_none() {
    let mut bed = Bed::new(&mine()).start().await;
    let compilations = bed.compilations();
    for number in 0..200 {
        bed.drop_in(&format!("broken-{number}"), &[number; 16]);
    }
    bed.drop_in("rule-mine", &version(threshold(), 1));
    bed.until(|now| {
        let plugins = now.plugins.plugins.values();
        let rejected = plugins.filter(|plugin| plugin.rejected.is_some());
        now.rules.len() == 1 && rejected.count() == 200
    })
    .await;
    assert!(bed.now().number < 50, "{}", bed.now().number);
    assert_eq!(bed.compilations(), compilations + 201, "none twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_that_holds_is_not_taken_while_it_is_written() {
    for _ in 0..3 {
        if half_is_left_alone().await {
            return;
        }
    }
    panic!("this machine lets nobody write without a pause");
}

/// Whether it was written without a pause that ends a file; if so, the half was not taken.
async fn half_is_left_alone() -> bool {
    use std::io::Write;
    let mut bed = running().await;
    let whole = std::fs::read_to_string(bed.config_file()).expect("read");
    let half = whole.split("[[rule]]").next().expect("a head");
    // Truncated, half written, open; then one write after the other, never quiet.
    let mut file = std::fs::File::create(bed.config_file()).expect("opened");
    file.write_all(half.as_bytes()).expect("written");
    // A component is the reason for a look meanwhile.
    let new = version(threshold(), 2);
    bed.drop_in("rule-mine", &new);
    let sha256 = sha256_of(&new);
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let last = Cell::new(Instant::now());
    let pause = Cell::new(Duration::ZERO);
    let written = async {
        loop {
            ticks.tick().await;
            file.write_all(b"#\n").expect("written");
            pause.set(pause.get().max(last.replace(Instant::now()).elapsed()));
        }
    };
    tokio::select! {
        () = bed.until(|now| now.rules.first().is_none_or(|rule| rule.sha256 == sha256)) => {}
        () = written => {}
    }
    let rules = bed.now().rules.len();
    if rules == 0 && pause.get().max(last.get().elapsed()) >= QUIET / 2 {
        return false;
    }
    assert_eq!(rules, 1, "the half was taken for the whole");
    drop(file);
    bed.configure(&rule("mine", "rule-mine", 80));
    bed.until(|now| {
        let rule = now.rules.first();
        rule.is_some_and(|rule| rule.config.config.contains("80"))
    })
    .await;
    assert_eq!(bed.events("config_rejected"), 0);
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_configuration_changes_nothing() {
    let mut bed = running().await;
    let before = bed.now();
    std::fs::write(bed.config_file(), "").expect("written");
    let summary = bed.until_condition("watchfire_config_invalid", true).await;
    assert!(summary.contains("the file is empty"), "{summary}");
    assert!(Arc::ptr_eq(&before.rules[0], &bed.now().rules[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_component_beside_a_good_edit_costs_only_itself() {
    let mut bed = running().await;
    let notifier = stock::find("notifier-log").expect("a stock plugin").bytes();
    // While the reloader is busy with another one, so that one look finds both.
    let compilations = bed.compilations();
    bed.drop_in("rule-other", &version(threshold(), 9));
    bed.until_compilations(compilations + 1).await;
    bed.drop_in("rule-mine", &notifier);
    bed.configure(&rule("mine", "rule-mine", 80));
    bed.until(|now| now.rules[0].config.config.contains("80"))
        .await;
    bed.until(|now| now.plugins.rejection("rule-mine").is_some())
        .await;
    assert_eq!(
        bed.now().rules[0].sha256,
        sha256_of(&version(threshold(), 1))
    );
    assert_eq!(bed.events("config_rejected"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_tried_again_with_the_component_that_came_with_it() {
    let mut bed = running().await;
    // Refused by the version that runs, and by the one before it.
    let wrong = rule("mine", "rule-mine", 70).replace("above", "abov");
    bed.configure(&wrong);
    bed.until_condition("watchfire_config_invalid", true).await;
    bed.drop_in("rule-mine", &version(threshold(), 2));
    let sha256 = sha256_of(&version(threshold(), 2));
    bed.until(|now| now.rules[0].sha256 == sha256).await;
    // It is no better with it, and that is all: the next good one is taken.
    bed.configure(&rule("mine", "rule-mine", 70));
    bed.until(|now| now.rules[0].config.config.contains("70"))
        .await;
    bed.until_condition("watchfire_config_invalid", false).await;
}
