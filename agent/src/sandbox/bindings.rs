//! What wasmtime generates from `wit/`: one module with everything that is imported, one for each world.
//!
//! No world imports every interface, so the imports come from a world of our own here, and the four
//! worlds borrow its modules: an `Error` or an `Alert` is the same Rust type in all of them.

#![expect(missing_docs, reason = "generated code; wit/ documents it")]

/// Every interface that a guest may import, with the traits that the host implements.
pub(crate) mod imports {
    wasmtime::component::bindgen!({
        path: "../wit",
        inline: "
            package watchfire:host;
            world everything {
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
        world: "watchfire:host/everything",
        imports: { default: async | trappable },
        require_store_data_send: true,
        with: { "watchfire:plugin/tcp.connection": crate::sandbox::host::tcp::Connection },
    });
}

/// The interfaces by their short names: `wit::http::Host`.
pub(crate) use imports::watchfire::plugin as wit;

pub(crate) mod probe {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "watchfire:plugin/probe-plugin",
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "watchfire:plugin/types": crate::sandbox::bindings::wit::types,
            "watchfire:plugin/log": crate::sandbox::bindings::wit::log,
            "watchfire:plugin/state": crate::sandbox::bindings::wit::state,
            "watchfire:plugin/system": crate::sandbox::bindings::wit::system,
            "watchfire:plugin/files": crate::sandbox::bindings::wit::files,
            "watchfire:plugin/secrets": crate::sandbox::bindings::wit::secrets,
            "watchfire:plugin/http": crate::sandbox::bindings::wit::http,
            "watchfire:plugin/tcp": crate::sandbox::bindings::wit::tcp,
            "watchfire:plugin/dns": crate::sandbox::bindings::wit::dns,
            "watchfire:plugin/commands": crate::sandbox::bindings::wit::commands,
            "watchfire:plugin/events": crate::sandbox::bindings::wit::events,
        },
    });
}

pub(crate) mod rule {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "watchfire:plugin/rule-plugin",
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "watchfire:plugin/types": crate::sandbox::bindings::wit::types,
            "watchfire:plugin/log": crate::sandbox::bindings::wit::log,
        },
    });
}

pub(crate) mod notifier {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "watchfire:plugin/notifier-plugin",
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "watchfire:plugin/types": crate::sandbox::bindings::wit::types,
            "watchfire:plugin/log": crate::sandbox::bindings::wit::log,
            "watchfire:plugin/state": crate::sandbox::bindings::wit::state,
            "watchfire:plugin/secrets": crate::sandbox::bindings::wit::secrets,
            "watchfire:plugin/http": crate::sandbox::bindings::wit::http,
            "watchfire:plugin/tcp": crate::sandbox::bindings::wit::tcp,
            "watchfire:plugin/mail": crate::sandbox::bindings::wit::mail,
            "watchfire:plugin/commands": crate::sandbox::bindings::wit::commands,
        },
    });
}

pub(crate) mod action {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "watchfire:plugin/action-plugin",
        exports: { default: async },
        require_store_data_send: true,
        with: {
            "watchfire:plugin/types": crate::sandbox::bindings::wit::types,
            "watchfire:plugin/log": crate::sandbox::bindings::wit::log,
            "watchfire:plugin/state": crate::sandbox::bindings::wit::state,
            "watchfire:plugin/system": crate::sandbox::bindings::wit::system,
            "watchfire:plugin/secrets": crate::sandbox::bindings::wit::secrets,
            "watchfire:plugin/http": crate::sandbox::bindings::wit::http,
            "watchfire:plugin/tcp": crate::sandbox::bindings::wit::tcp,
            "watchfire:plugin/commands": crate::sandbox::bindings::wit::commands,
            "watchfire:plugin/control": crate::sandbox::bindings::wit::control,
            "watchfire:plugin/events": crate::sandbox::bindings::wit::events,
        },
    });
}
