//! Every mistake has its place and says what to write instead.

use super::super::{Environment, Level, load, render};
use super::{environment, lines, load_text};

/// What `text` is refused with, as `LINE:COLUMN message | help`.
#[track_caller]
fn check(text: &str, wanted: &[&str]) {
    match load_text(text) {
        Ok(_) => panic!("was accepted:\n{text}"),
        Err(mistakes) => {
            assert_eq!(lines(&mistakes), wanted, "{text}");
            assert!(mistakes.iter().all(|m| m.level == Level::Error));
        }
    }
}

#[test]
fn unknown_keys_and_tables() {
    check(
        "[[probe]]\nid = \"p\"\nplugin = \"probe-x\"\nevry = \"10s\"\n",
        &["4:1 unknown key `evry` in `probe[p]` | did you mean `every`?"],
    );
    check(
        "[agnet]\nhost = \"a\"\n[api]\nfrobnicate = 1\n",
        &[
            "1:2 unknown table or key `agnet` | did you mean `agent`?",
            "4:1 unknown key `frobnicate` in `api` | known here: listen, hosts, socket",
        ],
    );
    check(
        "[[route]]\nnotify = [\"log\"]\nmatch = { team = \"a\" }\n",
        &["3:11 unknown key `team` in `route[1].match` | known here: severity, rule, labels"],
    );
}

#[test]
fn wrong_types_say_what_to_write() {
    check(
        "[defaults]\nevery = 10\ntimeout = \"5\"\njitter = true\n[agent]\nhost = 7\ninclude = \"a.toml\"\n",
        &[
            "2:9 `every` wants a duration such as \"30s\" or \"5m\", found the number 10 | write every = \"10s\"",
            "3:11 `timeout` wants a duration, found the string \"5\" | write a number with a unit: \"250ms\", \"90s\", \"5m\", \"1h30m\" or \"7d\"",
            "4:10 `jitter` wants a duration such as \"30s\" or \"5m\", found true | write jitter = \"30s\"",
            "6:8 `host` wants a string, found the number 7 | write host = \"7\"",
            "7:11 `include` wants a list of strings, found the string \"a.toml\" | write include = [\"a.toml\"]",
        ],
    );
    check(
        "[probe]\nid = \"p\"\n[[agent]]\n[retention]\nalerts = \"0s\"\n[plugin.x]\nlimits = { memory = \"1 GiG\" }\n",
        &[
            "1:1 `probe` wants an array of tables, found a table | write [[probe]] instead of [probe]",
            "3:1 `agent` wants a table, found a list | write [agent] or agent = { … }",
            "5:10 `alerts` must be longer than zero | write for example \"10s\"",
            "7:21 `memory` wants a size, found the string \"1 GiG\" | write memory = \"64MiB\" (B, KiB, MiB or GiB)",
        ],
    );
    check(
        "[recover]\nconcurrency = 0\npaused = \"no\"\n[delivery]\njitter = 2\n[alerting]\nkeep = { worst = \"1s\" }\n",
        &[
            "2:15 `concurrency` wants a whole number from 1 to 100, found the number 0 | ",
            "3:10 `paused` wants true or false, found the string \"no\" | write paused = true",
            "5:10 `jitter` wants a number from 0 to 1, found the number 2 | ",
            "7:10 unknown severity \"worst\" | write low, warning, high or critical",
        ],
    );
}

#[test]
fn ids_are_needed_once_and_well_formed() {
    check(
        "[[rule]]\nmetric = \"m\"\n[[probe]]\nid = \"a b\"\nplugin = \"x\"\n[[rule]]\nid = \"watchfire_x\"\nmetric = \"m\"\n",
        &[
            "1:1 `rule[1]` lacks `id` | every table needs a stable id: id = \"…\"; its state follows the id",
            "4:6 \"a b\" cannot be an id | use letters, digits, `_`, `-`, `.` and `:`, at most 128",
            "7:6 ids that begin with watchfire_ belong to the agent's own alerts | choose another id",
        ],
    );
    check(
        "[[rule]]\nid = \"r\"\nmetric = \"m\"\n[[rule]]\nid = \"r\"\nmetric = \"m\"\n",
        &[
            "5:6 there are two [[rule]] with the id \"r\" | the other one is at /etc/wf/w.toml:2:6; rename one",
        ],
    );
}

#[test]
fn references_must_lead_somewhere() {
    check(
        "[[rule]]\nid = \"cpu\"\nmetric = \"m\"\n\
         [[rule]]\nid = \"both\"\nall = [\"cpu\", \"memry\"]\n\
         [[notifier]]\nid = \"ops\"\nplugin = \"x\"\n\
         [[route]]\nnotify = [\"opps\"]\nescalate = [{ after = \"1m\", notify = [\"boss\"] }]\n\
         [[inhibit]]\nsource = \"cpx\"\ntarget = [\"no-*\"]\n\
         [[recovery]]\nid = \"fix\"\nplugin = \"x\"\nrules = [\"zzzzzz\"]\n\
         [delivery]\nfallback = \"obs\"\n",
        &[
            "6:15 no rule is called \"memry\" | write the id of a rule of this configuration",
            "11:11 no notifier is called \"opps\" | did you mean \"ops\"?",
            "12:39 no notifier is called \"boss\" | write [[notifier]] id = \"boss\", plugin = \"notifier-…\"",
            "14:10 no rule is called \"cpx\" | did you mean \"cpu\"?",
            "19:10 no rule is called \"zzzzzz\" | write the id of a rule, or a beginning with `*`, such as \"http-*\"",
            "21:12 no notifier is called \"obs\" | did you mean \"ops\"?",
        ],
    );
}

#[test]
fn composites_form_no_cycle() {
    check(
        "[[rule]]\nid = \"a\"\nall = [\"b\"]\n[[rule]]\nid = \"b\"\nany = [\"c\", \"x\"]\n[[rule]]\nid = \"c\"\nnone = [\"a\"]\n[[rule]]\nid = \"x\"\nall = [\"x\"]\n",
        &[
            "3:7 the rule depends on itself: a -> b -> c -> a | remove one of these references",
            "12:7 the rule depends on itself: x -> x | remove one of these references",
        ],
    );
    check(
        "[[rule]]\nid = \"a\"\nall = []\nany = [\"a\"]\nmetric = \"m\"\n",
        &[
            "3:7 `all` names no rule | write the ids of at least one rule",
            "4:7 `any` cannot stand beside another of all, any, none | make a second rule and combine the two",
            "5:1 `metric` has no meaning in a rule that combines others | remove it, or remove all/any/none",
        ],
    );
}

#[test]
fn secrets_commands_and_mail_are_declared_and_granted() {
    check(
        "[secrets]\nslack = { env = \"S\" }\nraw = \"xoxb-1\"\n\
         [[notifier]]\nid = \"n\"\nplugin = \"x\"\nconfig = { url = \"{{secret:slack}}\", b = \"{{ secret:slack }}\" }\n\
         [[probe]]\nid = \"p\"\nplugin = \"x\"\ngrant = { secrets = { slak = \"h\" }, commands = [\"ls\"], mail = true }\nconfig = { k = [\"a {{secret:other}}\"] }\n",
        &[
            "3:7 `raw` must say where the secret is, a secret itself has no place in this file | write raw = { env = \"NAME\" } or raw = { file = \"/run/credentials/raw\" }",
            "7:18 the secret \"slack\" is used and not granted | say where it may go: grant.secrets = { slack = \"HOST\" }",
            "7:42 `{{ secret:slack }}` is no reference to a secret | write {{secret:NAME}}, without spaces",
            "11:23 no secret is called \"slak\" | did you mean \"slack\"?",
            "11:49 no command is called \"ls\" | write it down: [command.ls] argv = [\"/usr/bin/…\"]",
            "11:63 mail is granted, and there is no [mail] server | write [mail] host = \"mail.example.org\", from = \"watchfire@example.org\"",
            "12:17 no secret is called \"other\" | write [secrets] other = { env = \"NAME\" }",
            "12:17 the secret \"other\" is used and not granted | say where it may go: grant.secrets = { other = \"HOST\" }",
        ],
    );
}

#[test]
fn a_secret_written_into_the_file_is_not_repeated_in_the_message() {
    let mistakes = load_text("[secrets]\nraw = \"xoxb-1\"\n").unwrap_err();
    assert!(!lines(&mistakes).concat().contains("xoxb"));
    let json = serde_json::to_string(&mistakes).unwrap();
    assert!(!json.contains("xoxb"), "{json}");
}

#[test]
fn grants_are_well_formed() {
    check(
        "[[probe]]\nid = \"p\"\nplugin = \"x\"\n[probe.grant]\nhttp = [\"hooks.slack.com\", \"https://a\", \"https://a:443/path\", \"http://10.0.0.0/8:*\", \"https://[::1]:443\"]\ntcp = [\"redis://a:1\", \"a\", \"unix:run\"]\nfiles = [\"var/log\", \"/var/../etc\"]\nservices = [\"a:start\"]\nsystem = \"yes\"\n",
        &[
            "5:9 \"hooks.slack.com\" names no scheme: only http:// and https:// can be granted | write \"https://hooks.slack.com:443\", \"http://127.0.0.1:*\" or \"http://10.0.0.0/8:*\"",
            "5:28 \"https://a\" names no port | write \"https://hooks.slack.com:443\", \"http://127.0.0.1:*\" or \"http://10.0.0.0/8:*\"",
            "5:41 \"https://a:443/path\" has no valid port: a grant is scheme://host:port without a path | write \"https://hooks.slack.com:443\", \"http://127.0.0.1:*\" or \"http://10.0.0.0/8:*\"",
            "6:8 \"redis://a:1\" is a URL: tcp wants host:port | write \"127.0.0.1:6379\" or \"unix:/run/redis.sock\"",
            "6:23 \"a\" is no host:port | write \"127.0.0.1:6379\" or \"unix:/run/redis.sock\"",
            "6:28 \"unix:run\" names no absolute path | write \"127.0.0.1:6379\" or \"unix:/run/redis.sock\"",
            "7:10 \"var/log\" is no absolute path | write for example \"/var/log/*.log\"",
            "7:21 \"/var/../etc\" climbs with `..` | write the path without `..`",
            "8:1 `services` can only be granted to a [[recovery]] | ",
            "9:10 `system` wants true or false, found the string \"yes\" | write system = true",
        ],
    );
    check(
        "[[rule]]\nid = \"r\"\nmetric = \"m\"\ngrant = { system = true }\n[[recovery]]\nid = \"f\"\nplugin = \"x\"\nrules = [\"r\"]\ngrant = { services = [\"nginx\"], signals = [\"nginx:SIGTERM\"] }\n",
        &[
            "4:1 `grant` has no place in a rule: rules are pure and reach nothing | collect with a [[probe]] and judge its metric here",
            "9:23 \"nginx\" is no UNIT:VERB | write \"nginx.service:restart\"; verbs are start, stop, restart, reload",
            "9:44 \"nginx:SIGTERM\" is no NAME:SIGNAL | write \"nginx:TERM\": the signal's name in capitals, without SIG",
        ],
    );
}

#[test]
fn rules_say_what_they_judge() {
    check(
        "[[rule]]\nid = \"a\"\n\
         [[rule]]\nid = \"b\"\nmetric = \"m{x=1}\"\naggregate = \"mean\"\nover = \"1m\"\n\
         [[rule]]\nid = \"c\"\nmetric = \"m\"\naggregate = \"p95\"\nmatch = { code = \"~5(\" }\n\
         [[rule]]\nid = \"d\"\nmetric = \"m\"\ninputs.x = { metric = \"y\" }\n\
         [[rule]]\nid = \"e\"\nmetric = \"m\"\nat_least = { m = 6, of = 5, period = \"1m\" }\non_missing = \"fire\"\nsummary = \"{{ value\"\n",
        &[
            "1:1 `rule[a]` lacks `metric` | say what it judges: metric = \"…\", inputs.NAME = { metric = \"…\" }, slo = { … }, or all/any/none = [\"RULE\"]",
            "5:10 `metric` \"m{x=1}\" cannot be the name of a metric | write the labels apart: match = { label = \"value\" }",
            "6:13 `aggregate` cannot be \"mean\" | did you mean \"avg\"?",
            "11:13 `aggregate` needs a window | add over = \"5m\"",
            "12:18 \"~5(\" is no regular expression: found open group without closing ')' | after `~` stands a regular expression that matches the whole value",
            "15:1 `metric` cannot stand beside `inputs` | write it into the input it belongs to: inputs.NAME = { metric = \"…\", … }",
            "20:12 `at_least` wants 6 of 5 buckets, which never happens | write at_least = { m = 3, of = 5, period = \"60s\" }",
            "21:14 `on_missing` cannot be \"fire\" | write \"keep\" or \"ok\" or \"breach\"",
            "22:11 `summary` is no valid template: unexpected end of input, expected end of variable block | write for example \"CPU at {{ value }} on {{ labels.host }}\"",
        ],
    );
}

#[test]
fn what_comes_later_says_so() {
    check(
        "[[silence]]\nx = 1\n[push]\n[export]\n\
         [retention]\nlogs = \"90d\"\n",
        &[
            "1:3 `silence` comes with a later release of watchfire | ",
            "3:2 `push` comes with a later release of watchfire | ",
            "4:2 `export` comes with a later release of watchfire | ",
            "6:1 `logs` comes with a later release of watchfire | ",
        ],
    );
}

#[test]
fn a_history_has_a_least_size() {
    check(
        "[retention]\nmetrics = \"0s\"\nmetrics_bytes_max = \"1MiB\"\n",
        &[
            "2:11 `metrics` must be longer than zero | write for example \"10s\"",
            "3:21 `metrics_bytes_max` is too small for a history of samples | write at least \"4MiB\"; a hundred series at 10s take some 4 MiB a day",
        ],
    );
}

#[test]
fn broken_syntax_hides_what_only_follows_from_it_and_nothing_else() {
    check(
        "[[rule]]\nid = \"a\nmetric = \"m\"\n[[rule]]\nid = \"b\"\nmetric = \"m\"\nseverty = \"low\"\nfor = 3\n[[route]]\nnotify = [\"nobody\"]\n",
        &[
            "2:8 not valid TOML: invalid basic string, expected `\"` | close the string with a quotation mark on the same line",
            "7:1 unknown key `severty` in `rule[b]` | did you mean `severity`?",
            "8:7 `for` wants a duration such as \"30s\" or \"5m\", found the number 3 | write for = \"3s\"",
        ],
    );
    check(
        "[[probe]]\nid = \"p\"\nplugin = \"x\"\n[[rule]\nid = \"a\"\nmetric = cpu\nkind = 1\n[api]\nfoo = 1\n",
        &[
            "4:8 not valid TOML: unclosed array table, expected `]` | write [table] or [[list-of-tables]] on a line of its own",
            "9:1 unknown key `foo` in `api` | known here: listen, hosts, socket",
        ],
    );
    check(
        "[[probe]]\nid = \"p\"\nplugin = \"x\"\ngrant = { system = true\nconfig = { a = 1 }\n",
        &[
            "5:1 not valid TOML: missing comma between key-value pairs, expected `,` | within { … } and [ … ] commas separate; is a closing bracket missing before this?",
        ],
    );
    check(
        "[api]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n",
        &[
            "3:1 not valid TOML: duplicate key | every key may be given once; several probes or rules are [[probe]], [[rule]]",
        ],
    );
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment {
        cwd: folder.path().to_owned(),
        ..environment()
    };
    for (name, content, wanted) in [
        (
            "nul.toml",
            &b"a = 1\n\0"[..],
            "nul.toml:2:1: holds a NUL byte",
        ),
        (
            "latin.toml",
            b"# \xe9\n",
            "latin.toml:1:3: holds bytes that are not UTF-8",
        ),
        (
            "big.toml",
            &[b'#'; (1 << 20) + 1],
            "big.toml: is larger than 1 MiB",
        ),
    ] {
        std::fs::write(folder.path().join(name), content).unwrap();
        let rejected = load(Some(name.as_ref()), &environment).unwrap_err();
        let text = rejected.to_string();
        assert!(text.ends_with(wanted), "{text}");
        assert_eq!(rejected.files, [folder.path().join(name)]);
        assert!(rejected.mistakes[0].help.is_some());
    }
    for (name, wanted) in [
        ("gone.toml", "cannot read the file: No such file"),
        (".", "is no regular file"),
    ] {
        let text = load(Some(name.as_ref()), &environment)
            .unwrap_err()
            .to_string();
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn what_is_printed_and_logged_has_no_control_characters() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("watchfire.toml");
    std::fs::write(&path, "[agent]\n\"a\\u001b[31mb\" = 1\n").unwrap();
    let rejected = load(Some(&path), &environment()).unwrap_err();
    let text = rejected.to_string();
    assert!(text.contains("unknown key `a [31mb`"), "{text}");
    assert!(!render(&rejected.mistakes, false).contains('\x1b'));
}

#[test]
fn mistakes_of_all_files_come_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("conf.d")).unwrap();
    write(
        "watchfire.toml",
        "[agent]\ninclude = [\"conf.d/*.toml\", \"gone\\u001b.toml\", \"*/x\"]\npacks = [\"hots\"]\nhost = \"a\"\n",
    );
    write("conf.d/a.toml", "[[rule]]\nid = \"r\"\n");
    write(
        "conf.d/b.toml",
        "[agent]\nhost = \"b\"\ninclude = []\n[[probe]]\nid = \"p\"\nplugin = \"x\"\nevery = 1\n",
    );
    let environment = Environment {
        cwd: folder.path().to_owned(),
        ..environment()
    };
    let rejected = load(None, &environment).unwrap_err();
    let printed =
        render(&rejected.mistakes, false).replace(&format!("{}/", folder.path().display()), "");
    for wanted in [
        "\"gone\\u{1b}.toml\" names a file that does not exist",
        "watchfire.toml:2:29",
        "watchfire.toml:2:48",
        "has a wildcard in a folder's name",
        "no pack is called \"hots\"",
        "did you mean \"host\"?",
        "conf.d/b.toml:2:1",
        "it is also set at watchfire.toml:4:1",
        "conf.d/b.toml:3:1",
        "can only stand in the main file",
        "write every = \"1s\"",
    ] {
        assert!(printed.contains(wanted), "{wanted} is not in\n{printed}");
    }
    assert!(!printed.contains("agent.include` is set"), "{printed}");
    assert!(!printed.contains('\x1b'), "{printed}");
    assert_eq!(rejected.files.len(), 4, "{:?}", rejected.files);
}

#[test]
fn a_file_without_a_word_is_refused_and_a_comment_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment {
        cwd: folder.path().to_owned(),
        ..environment()
    };
    let file = folder.path().join("watchfire.toml");
    for text in ["", " \n\t\n"] {
        std::fs::write(&file, text).unwrap();
        let rejected = load(None, &environment).unwrap_err();
        let printed = render(&rejected.mistakes, false);
        assert!(printed.contains("the file is empty"), "{printed}");
        assert_eq!(rejected.files, std::slice::from_ref(&file));
    }
    std::fs::write(&file, "# all as it comes\n").unwrap();
    load(None, &environment).unwrap();
}

#[test]
fn the_interpreter_is_asked_for_only_where_there_is_one() {
    super::good("[engine]\ninterpreter = false\n");
    let asked = "[engine]\ninterpreter = true\n";
    if crate::sandbox::HAS_INTERPRETER {
        assert_eq!(super::good(asked).config.engine.interpreter, Some(true));
    } else {
        check(
            asked,
            &[
                "2:1 `interpreter` needs a watchfire that was built with `--features pulley` | take it out: plugins run as native code",
            ],
        );
    }
}

#[test]
fn what_a_rule_records() {
    check(
        "[[rule]]\nid = \"a\"\nmetric = \"m\"\nrecord = \"a b\"\n[[rule]]\nid = \"b\"\nall = [\"a\"]\nrecord = \"c\"\n",
        &[
            "4:10 `record` \"a b\" cannot be the name of a metric | use letters, digits, `_` and `:`, no digit first",
            "8:1 `record` has no meaning in a rule that combines others | remove it, or remove all/any/none",
        ],
    );
    check(
        "[[rule]]\nid = \"a\"\nmetric = \"m\"\nrecord = \"left\"\n[[rule]]\nid = \"b\"\nmetric = \"left\"\n",
        &[
            "7:10 \"left\" is what the rule \"a\" records, and rules read what probes yield | read what that rule reads, or give `record` a name of its own",
        ],
    );
}
