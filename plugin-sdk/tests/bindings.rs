//! The SDK's bindings are what wit-bindgen makes of `wit/`: generated here, so that no author's build has to.
//!
//! ```text
//! WATCHFIRE_BINDINGS=write cargo test -p watchfire-plugin-sdk --test bindings
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use wit_bindgen_core::{Files, WorldGenerator};
use wit_bindgen_rust::{Opts, WithOption};
use wit_parser::{PackageId, Resolve, WorldId, WorldItem};

const KINDS: [&str; 4] = ["probe", "rule", "notifier", "action"];

/// `write` brings the files up to date instead of comparing them.
const VARIABLE: &str = "WATCHFIRE_BINDINGS";

const HEAD: &str =
    "// @generated from wit/ by plugin-sdk/tests/bindings.rs; never edited by hand.\n";

/// A plugin's crate neither names wit-bindgen nor depends on it, and that is where the macros of the exports expand.
const PRIVATE: &str = "::watchfire_plugin_sdk::__private";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn contract() -> (Resolve, PackageId) {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir(root().join("wit")).unwrap();
    (resolve, package)
}

fn world(resolve: &Resolve, package: PackageId, kind: &str) -> WorldId {
    resolve.packages[package].worlds[&format!("{kind}-plugin")]
}

/// Host interfaces and shared types that a world asks for, as `watchfire:plugin/log@0.1.0`.
fn imported(resolve: &Resolve, world: WorldId) -> Vec<String> {
    let imports = resolve.worlds[world].imports.values();
    let interfaces = imports.map(|item| match item {
        WorldItem::Interface { id, .. } => resolve.id_of(*id).expect("a name"),
        other => panic!("a world imports more than interfaces: {other:?}"),
    });
    interfaces.collect()
}

fn generated(mut resolve: Resolve, world: WorldId, opts: Opts) -> String {
    let mut files = Files::default();
    let opts = Opts {
        format: true,
        runtime_path: Some(format!("{PRIVATE}::wit_bindgen::rt")),
        ..opts
    };
    opts.build()
        .generate(&mut resolve, world, &mut files)
        .unwrap();
    let (_, source) = files.iter().next().expect("a file");
    format!("{HEAD}{}", std::str::from_utf8(source).unwrap())
}

/// Every host interface and the shared types, once. Its world is no part of the contract, and a component imports only
/// what it calls.
fn imports() -> String {
    let (mut resolve, package) = contract();
    let all: BTreeSet<String> = KINDS
        .iter()
        .flat_map(|kind| imported(&resolve, world(&resolve, package, kind)))
        .collect();
    let lines: String = all.iter().map(|name| format!("import {name};\n")).collect();
    let text = format!("package watchfire:sdk;\nworld imports {{\n{lines}}}\n");
    let package = resolve.push_str("imports.wit", &text).unwrap();
    let world = resolve.packages[package].worlds["imports"];
    let opts = Opts {
        generate_all: true,
        generate_unused_types: true,
        ..Opts::default()
    };
    generated(resolve, world, opts)
}

/// What a kind exports. What it imports is borrowed, so that `Error` is one Rust type whatever the kind.
fn exports(kind: &str) -> String {
    let (resolve, package) = contract();
    let world = world(&resolve, package, kind);
    let with = imported(&resolve, world).into_iter().map(|name| {
        let (_, interface) = name.split_once('/').expect("a package");
        let (interface, _) = interface.split_once('@').expect("a version");
        let path = format!("crate::bindings::imports::watchfire::plugin::{interface}");
        (name, WithOption::Path(path))
    });
    let opts = Opts {
        pub_export_macro: true,
        export_macro_name: Some(format!("__export_{kind}")),
        default_bindings_module: Some(format!("{PRIVATE}::bindings::{kind}")),
        with: with.collect(),
        ..Opts::default()
    };
    generated(resolve, world, opts)
}

#[test]
fn bindings_are_what_the_contract_says() {
    let folder = root().join("plugin-sdk/src/bindings");
    let files = KINDS.iter().map(|kind| (*kind, exports(kind)));
    let mut old = Vec::new();
    for (name, fresh) in files.chain([("imports", imports())]) {
        let path = folder.join(format!("{name}.rs"));
        if fs::read_to_string(&path).ok().as_ref() == Some(&fresh) {
            continue;
        }
        if std::env::var(VARIABLE).as_deref() == Ok("write") {
            fs::write(&path, fresh).unwrap();
        } else {
            old.push(name);
        }
    }
    assert!(
        old.is_empty(),
        "plugin-sdk/src/bindings is not what wit-bindgen makes of wit/ ({}): run `{VARIABLE}=write cargo test -p \
         watchfire-plugin-sdk --test bindings` and commit what it writes",
        old.join(", ")
    );
}
