//! What wit-bindgen makes of `wit/`: one module a kind, hidden behind the SDK's own types.
//!
//! `imports` owns every host interface and the shared types, the four kinds borrow them by `with`, so that `Error` is
//! one Rust type whatever the kind. Its world stands inline: it is no part of the contract, and a component imports
//! only what it calls. The macros that emit exports are public (`pub_export_macro`) because they expand in the
//! plugin's crate, which neither names wit-bindgen nor depends on it (`runtime_path`).

pub mod imports {
    wit_bindgen::generate!({
        path: "../wit",
        inline: "
            package watchfire:sdk;
            world imports {
                import watchfire:plugin/types@0.1.0;
                import watchfire:plugin/log@0.1.0;
                import watchfire:plugin/state@0.1.0;
                import watchfire:plugin/system@0.1.0;
                import watchfire:plugin/files@0.1.0;
                import watchfire:plugin/secrets@0.1.0;
                import watchfire:plugin/http@0.1.0;
                import watchfire:plugin/tcp@0.1.0;
                import watchfire:plugin/dns@0.1.0;
                import watchfire:plugin/mail@0.1.0;
                import watchfire:plugin/commands@0.1.0;
                import watchfire:plugin/control@0.1.0;
                import watchfire:plugin/events@0.1.0;
            }
        ",
        world: "watchfire:sdk/imports",
        generate_all,
        generate_unused_types: true,
        runtime_path: "::watchfire_plugin_sdk::__private::wit_bindgen::rt",
    });
}

pub mod probe {
    wit_bindgen::generate!({
        path: "../wit",
        world: "probe-plugin",
        pub_export_macro: true,
        export_macro_name: "__export_probe",
        default_bindings_module: "::watchfire_plugin_sdk::__private::bindings::probe",
        runtime_path: "::watchfire_plugin_sdk::__private::wit_bindgen::rt",
        with: {
            "watchfire:plugin/types@0.1.0": crate::bindings::imports::watchfire::plugin::types,
            "watchfire:plugin/log@0.1.0": crate::bindings::imports::watchfire::plugin::log,
            "watchfire:plugin/state@0.1.0": crate::bindings::imports::watchfire::plugin::state,
            "watchfire:plugin/system@0.1.0": crate::bindings::imports::watchfire::plugin::system,
            "watchfire:plugin/files@0.1.0": crate::bindings::imports::watchfire::plugin::files,
            "watchfire:plugin/http@0.1.0": crate::bindings::imports::watchfire::plugin::http,
            "watchfire:plugin/tcp@0.1.0": crate::bindings::imports::watchfire::plugin::tcp,
            "watchfire:plugin/dns@0.1.0": crate::bindings::imports::watchfire::plugin::dns,
            "watchfire:plugin/secrets@0.1.0": crate::bindings::imports::watchfire::plugin::secrets,
            "watchfire:plugin/commands@0.1.0": crate::bindings::imports::watchfire::plugin::commands,
            "watchfire:plugin/events@0.1.0": crate::bindings::imports::watchfire::plugin::events,
        },
    });
}

pub mod rule {
    wit_bindgen::generate!({
        path: "../wit",
        world: "rule-plugin",
        pub_export_macro: true,
        export_macro_name: "__export_rule",
        default_bindings_module: "::watchfire_plugin_sdk::__private::bindings::rule",
        runtime_path: "::watchfire_plugin_sdk::__private::wit_bindgen::rt",
        with: {
            "watchfire:plugin/types@0.1.0": crate::bindings::imports::watchfire::plugin::types,
            "watchfire:plugin/log@0.1.0": crate::bindings::imports::watchfire::plugin::log,
        },
    });
}

pub mod notifier {
    wit_bindgen::generate!({
        path: "../wit",
        world: "notifier-plugin",
        pub_export_macro: true,
        export_macro_name: "__export_notifier",
        default_bindings_module: "::watchfire_plugin_sdk::__private::bindings::notifier",
        runtime_path: "::watchfire_plugin_sdk::__private::wit_bindgen::rt",
        with: {
            "watchfire:plugin/types@0.1.0": crate::bindings::imports::watchfire::plugin::types,
            "watchfire:plugin/log@0.1.0": crate::bindings::imports::watchfire::plugin::log,
            "watchfire:plugin/state@0.1.0": crate::bindings::imports::watchfire::plugin::state,
            "watchfire:plugin/http@0.1.0": crate::bindings::imports::watchfire::plugin::http,
            "watchfire:plugin/tcp@0.1.0": crate::bindings::imports::watchfire::plugin::tcp,
            "watchfire:plugin/mail@0.1.0": crate::bindings::imports::watchfire::plugin::mail,
            "watchfire:plugin/secrets@0.1.0": crate::bindings::imports::watchfire::plugin::secrets,
            "watchfire:plugin/commands@0.1.0": crate::bindings::imports::watchfire::plugin::commands,
        },
    });
}

pub mod action {
    wit_bindgen::generate!({
        path: "../wit",
        world: "action-plugin",
        pub_export_macro: true,
        export_macro_name: "__export_action",
        default_bindings_module: "::watchfire_plugin_sdk::__private::bindings::action",
        runtime_path: "::watchfire_plugin_sdk::__private::wit_bindgen::rt",
        with: {
            "watchfire:plugin/types@0.1.0": crate::bindings::imports::watchfire::plugin::types,
            "watchfire:plugin/log@0.1.0": crate::bindings::imports::watchfire::plugin::log,
            "watchfire:plugin/state@0.1.0": crate::bindings::imports::watchfire::plugin::state,
            "watchfire:plugin/system@0.1.0": crate::bindings::imports::watchfire::plugin::system,
            "watchfire:plugin/http@0.1.0": crate::bindings::imports::watchfire::plugin::http,
            "watchfire:plugin/tcp@0.1.0": crate::bindings::imports::watchfire::plugin::tcp,
            "watchfire:plugin/secrets@0.1.0": crate::bindings::imports::watchfire::plugin::secrets,
            "watchfire:plugin/commands@0.1.0": crate::bindings::imports::watchfire::plugin::commands,
            "watchfire:plugin/control@0.1.0": crate::bindings::imports::watchfire::plugin::control,
            "watchfire:plugin/events@0.1.0": crate::bindings::imports::watchfire::plugin::events,
        },
    });
}
