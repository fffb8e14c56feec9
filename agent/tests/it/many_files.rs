//! More components at once than fit into the memory of the service.

use crate::support::bed::{Bed, rule};
use watchfire::plugin::stock;

/// With eight of them the last ones are read again when they are compiled.
const PADDING_BYTES: usize = 12 << 20;

/// A component that differs from others by its number, and has a section of that size that says nothing.
fn padded(number: u8) -> Vec<u8> {
    let mut bytes = stock::find("rule-threshold")
        .expect("a stock plugin")
        .bytes();
    // A custom section: its id, its size as LEB128, its name with the length before it, its content.
    let size = PADDING_BYTES + 2;
    let leb = (0..5).map(|at| (size >> (7 * at) & 0x7f) as u8 | if at < 4 { 0x80 } else { 0 });
    bytes.push(0);
    bytes.extend(leb);
    bytes.extend([1, b'x']);
    bytes.resize(bytes.len() + PADDING_BYTES, number);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn large_components_that_come_together_all_serve() {
    let bed = Bed::new(&rule("mine", "rule-0", 90));
    let bed = (0..8).fold(bed, |bed, number| {
        bed.with_plugin(&format!("rule-{number}"), &padded(number))
    });
    let mut bed = bed.start().await;
    let all = |now: &std::sync::Arc<watchfire::plugin::Generation>| {
        (0..8).all(|number| now.plugins.running(&format!("rule-{number}")).is_some())
    };
    bed.until(all).await;
    // Dropped in beside them while they run: each a new version.
    for number in 0..8 {
        bed.drop_in(&format!("rule-{number}"), &padded(number + 100));
    }
    let want = crate::support::bed::sha256_of(&padded(107));
    bed.until(|now| {
        let last = now.plugins.running("rule-7");
        all(now) && last.is_some_and(|plugin| plugin.sha256 == want)
    })
    .await;
    bed.looked_again().await;
    assert!(
        bed.now()
            .plugins
            .plugins
            .values()
            .all(|plugin| plugin.rejected.is_none())
    );
}
