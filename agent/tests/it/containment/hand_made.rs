//! Components that no compiler makes: a core module as text, in the clothes of a probe; and bytes that are worse.

use std::path::Path;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Where what the host hands over is put; what is below is free for answers, and zero at first.
const FREE: u32 = 384 << 10;

/// Interfaces of WASI and of strangers that the worlds of the contract do not name; subsets are enough.
const OTHERS: &str = r#"
package test:worlds;

package wasi:io@0.2.0 {
    interface poll { resource pollable; }
}
package wasi:clocks@0.2.0 {
    interface monotonic-clock {
        use wasi:io/poll@0.2.0.{pollable};
        subscribe-duration: func(when: u64) -> pollable;
    }
}
package nobody:knows@1.0.0 {
    interface this { call: func(); }
}
world with-clock {
    import wasi:clocks/monotonic-clock@0.2.0;
    export watchfire:plugin/probe@0.1.0;
}
world with-stranger {
    import nobody:knows/this@1.0.0;
    export watchfire:plugin/probe@0.1.0;
}
"#;

/// A probe by hand. Functions are bodies in text; `describe`, `configure` and `collect` leave the address of their
/// answer, and where it holds zeros that is an empty description, a yes, an empty collection.
pub(crate) struct ByHand<'a> {
    pub(crate) world: &'a str,
    /// Imports of the core module.
    pub(crate) imports: &'a str,
    pub(crate) describe: &'a str,
    pub(crate) configure: &'a str,
    pub(crate) collect: &'a str,
    /// Further fields of the core module.
    pub(crate) rest: &'a str,
}

impl Default for ByHand<'_> {
    fn default() -> Self {
        ByHand {
            world: "watchfire:plugin/probe-plugin",
            imports: "",
            describe: "(i32.const 1024)",
            configure: "(i32.const 1024)",
            collect: "(i32.const 1024)",
            rest: "",
        }
    }
}

impl ByHand<'_> {
    /// The component.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let ByHand {
            world,
            imports,
            describe,
            configure,
            collect,
            rest,
        } = self;
        let text = format!(
            r#"(module
                {imports}
                (memory (export "memory") 8)
                (global $free (mut i32) (i32.const {FREE}))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (local $at i32)
                    (local.set $at (i32.and
                        (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
                    (global.set $free (i32.add (local.get $at) (local.get 3)))
                    (local.get $at))
                (func (export "watchfire:plugin/probe@0.1.0#describe") (result i32) {describe})
                (func (export "watchfire:plugin/probe@0.1.0#configure") (param i32 i32) (result i32)
                    {configure})
                (func $collect (export "watchfire:plugin/probe@0.1.0#collect") (result i32)
                    {collect})
                {rest})"#
        );
        let mut module = wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"));
        let mut resolve = Resolve::default();
        let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
        let (contract, _) = resolve.push_dir(contract).unwrap();
        let others = resolve.push_str("others.wit", OTHERS).unwrap();
        let world = resolve
            .select_world(&[others, contract], Some(world))
            .unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default()
            .module(&module)
            .unwrap()
            .encode()
            .unwrap()
    }
}

/// A probe with this `collect` and these further fields.
pub(crate) fn probe(collect: &str, rest: &str) -> Vec<u8> {
    ByHand {
        collect,
        rest,
        ..ByHand::default()
    }
    .bytes()
}

/// A body of `collect` that writes the answer of one family with one point, then changes it.
pub(crate) fn one_point(change: &str) -> String {
    format!(
        r#"(i32.store (i32.const 1032) (i32.const 2048)) (i32.store (i32.const 1036) (i32.const 1))
        (i32.store (i32.const 2048) (i32.const 512)) (i32.store (i32.const 2052) (i32.const 6))
        (i32.store (i32.const 2068) (i32.const 4096)) (i32.store (i32.const 2072) (i32.const 1))
        (f64.store (i32.const 4112) (f64.const 7))
        {change}
        (i32.const 1024)"#
    )
}

/// The texts of [`one_point`], and four bytes that are none.
pub(crate) const TEXTS: &str =
    r#"(data (i32.const 512) "metric") (data (i32.const 528) "\ff\fe\c0\80")"#;

/// A component as text: for shapes that need no contract.
pub(crate) fn text(component: &str) -> Vec<u8> {
    wat::parse_str(component).unwrap_or_else(|error| panic!("{error}"))
}

/// A component that is nothing but this core module.
pub(crate) fn only_module(module: &[u8]) -> Vec<u8> {
    with_sections(b"\0asm\x0d\0\x01\0".to_vec(), &[(1, module)])
}

/// Appends sections: id and content. In a component 1 is a core module, 2 core instances.
pub(crate) fn with_sections(mut binary: Vec<u8>, sections: &[(u8, &[u8])]) -> Vec<u8> {
    for (id, content) in sections {
        binary.push(*id);
        leb(content.len(), &mut binary);
        binary.extend_from_slice(content);
    }
    binary
}

/// The content of a section that instantiates core module `module` so many times, without arguments.
pub(crate) fn instances(module: usize, times: usize) -> Vec<u8> {
    let mut content = Vec::new();
    leb(times, &mut content);
    for _ in 0..times {
        content.push(0);
        leb(module, &mut content);
        leb(0, &mut content);
    }
    content
}

/// A core module of so many functions from a number to a number; each does this so many times, in bytes that leave the
/// stack as it was. As bytes altogether: text of that size takes longer to read than all else.
pub(crate) fn functions(count: usize, work: &[u8], times: usize) -> Vec<u8> {
    // No locals; the work; `local.get 0`, `end`.
    let mut body = vec![0];
    body.extend(work.repeat(times));
    body.extend([0x20, 0, 0x0b]);
    let mut code = Vec::new();
    leb(count, &mut code);
    for _ in 0..count {
        leb(body.len(), &mut code);
        code.extend(&body);
    }
    let mut types = Vec::new();
    leb(count, &mut types);
    types.resize(types.len() + count, 0);
    // One type, `(func (param i32) (result i32))`, and one page of memory.
    let module = b"\0asm\x01\0\0\0\x01\x06\x01\x60\x01\x7f\x01\x7f".to_vec();
    with_sections(module, &[(3, &types), (5, &[1, 0, 1]), (10, &code)])
}

/// A core module of one function with so many blocks inside each other. As bytes: the text of it would be
/// parsed with as many steps down a stack.
pub(crate) fn nested(depth: usize) -> Vec<u8> {
    const BLOCK: [u8; 2] = [0x02, 0x40];
    let mut body = vec![0];
    body.extend(BLOCK.repeat(depth));
    body.extend(vec![0x0b; depth + 1]);
    let mut code = vec![1];
    leb(body.len(), &mut code);
    code.extend(body);
    let module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0".to_vec();
    with_sections(module, &[(10, &code)])
}

/// An unsigned number as the binary format has it.
fn leb(mut number: usize, to: &mut Vec<u8>) {
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            to.push(low);
            return;
        }
        to.push(low | 0x80);
    }
}
