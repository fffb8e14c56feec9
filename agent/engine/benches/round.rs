//! What a round of healthy observations costs: the case that a host is in nearly always.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::sync::Arc;

#[path = "../tests/it/common/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod common;

use common::{instance, now, observation, policy, round};
use watchfire_engine::model::Severity;
use watchfire_engine::{State, step};

/// Instances of one rule: the limit of one component's result.
const INSTANCES: usize = 10_000;

fn rounds(criterion: &mut Criterion) {
    let policy = policy();
    let instances: Vec<_> = (0..INSTANCES).map(|i| instance(&i.to_string())).collect();
    let mut group = criterion.benchmark_group("round");
    group.throughput(Throughput::Elements(INSTANCES as u64));
    for firing in [0, 100] {
        let observations: Vec<_> = instances
            .iter()
            .enumerate()
            .map(|(at, instance): (usize, &Arc<_>)| {
                let breached: &[Severity] = if at < firing {
                    &[Severity::Warning]
                } else {
                    &[]
                };
                observation(instance, Some(breached))
            })
            .collect();
        let mut state = State::new(&policy, now(0));
        let mut at = 0;
        step(&mut state, &policy, round(observations.clone()), now(at));
        group.bench_function(format!("ok, {firing} of them firing"), |bencher| {
            bencher.iter_batched(
                || round(observations.clone()),
                |input| {
                    at += 10;
                    step(&mut state, &policy, input, now(at))
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, rounds);
criterion_main!(benches);
