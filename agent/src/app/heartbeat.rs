//! The heartbeat to an outside dead-man's switch (`[heartbeat]`): it goes out while rounds are decided,
//! and stops when they are not. Whoever waits for it then tells somebody; a dead host cannot.
//!
//! What it says is that alerts would be told: collection, judgement and the engine turn. A store that
//! is not durable does not stop it, because alerts still go out, and a meta-alert tells of the store.
//! A failure is counted and logged once; the other side notices by itself, so no alert is raised here.

use crate::config::{Config, HeartbeatConfig};
use crate::pipeline::view::{Views, standing_after};
use crate::plugin::Generation;
use crate::sandbox::egress::tls::Trust;
use crate::sandbox::secrets::Secrets;
use crate::telemetry::metrics::Metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Limit of one beat, whatever the other side does.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often it looks whether the first round came, where none did yet: the first beat shall tell of a
/// start within seconds.
const FIRST_LOOK: Duration = Duration::from_secs(1);

/// Why a beat did not arrive. Texts name no address: it is the key to the switch.
#[derive(Debug, thiserror::Error)]
enum BeatError {
    #[error("{0}")]
    Secret(String),
    #[error("the address cannot be used: {0}")]
    Address(String),
    #[error("the request failed: {0}")]
    Request(String),
    #[error("the service answered {0}")]
    Status(u16),
}

/// What came of the last beat, so that only changes are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Sent,
    Failed,
    /// The pipeline stands.
    Withheld,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Outcome::Sent => "sent",
            Outcome::Failed => "failed",
            Outcome::Withheld => "withheld",
        }
    }
}

/// Beats for as long as it is polled, by the configuration that is live.
pub(super) async fn beat(
    mut generation: watch::Receiver<Arc<Generation>>,
    views: Views,
    metrics: Arc<Metrics>,
) {
    let trust = Trust::new(Vec::new());
    loop {
        let config = generation.borrow_and_update().config.clone();
        match &config.heartbeat {
            None => {
                if generation.changed().await.is_err() {
                    return;
                }
            }
            Some(heartbeat) => {
                let changed = async {
                    loop {
                        if generation.changed().await.is_err() {
                            return false;
                        }
                        let next = generation.borrow_and_update().config.clone();
                        if next.heartbeat != config.heartbeat || next.secrets != config.secrets {
                            return true;
                        }
                    }
                };
                tokio::select! {
                    goes_on = changed => if !goes_on { return },
                    () = follow(heartbeat, &config, &trust, &views, &metrics) => {}
                }
            }
        }
    }
}

/// Beats under one configuration, without end.
async fn follow(
    heartbeat: &HeartbeatConfig,
    config: &Config,
    trust: &Trust,
    views: &Views,
    metrics: &Metrics,
) {
    let secrets = Secrets::new(config.secrets.clone());
    let mut last: Option<Outcome> = None;
    let mut turns = Turns::new();
    // Without a round nothing is said yet: a start that never gets there stays silent.
    while !turns.look(views) {
        tokio::time::sleep(FIRST_LOOK.min(heartbeat.every)).await;
    }
    let mut ticks = tokio::time::interval(heartbeat.every);
    // After a suspend one beat is due, not all that were missed.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let outcome = if !turns.look(views) {
            if last != Some(Outcome::Withheld) {
                tracing::warn!("no round was decided for too long: the heartbeat is withheld");
            }
            Outcome::Withheld
        } else {
            match send(heartbeat, trust, &secrets).await {
                Ok(()) => {
                    if last.is_some_and(|last| last != Outcome::Sent) {
                        tracing::info!("the heartbeat arrives again");
                    }
                    metrics.heartbeat_sent_at.set(now_secs());
                    Outcome::Sent
                }
                Err(error) => {
                    if last != Some(Outcome::Failed) {
                        tracing::warn!(%error, "the heartbeat did not arrive; it is counted from now on");
                    }
                    Outcome::Failed
                }
            }
        };
        metrics.heartbeats.with([outcome.name()]).inc();
        last = Some(outcome);
    }
}

fn now_secs() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap_or_default().as_secs_f64()
}

/// Follows the rounds.
struct Turns {
    rounds: u64,
    /// When the last new one was seen; none before the first.
    turned: Option<Instant>,
}

impl Turns {
    fn new() -> Self {
        Turns {
            rounds: 0,
            turned: None,
        }
    }

    /// Whether a round was decided lately.
    fn look(&mut self, views: &Views) -> bool {
        let (rounds, longest) = {
            let pipeline = views.pipeline.borrow();
            (pipeline.rounds, pipeline.longest_interval)
        };
        self.turns(rounds, longest, Instant::now())
    }

    fn turns(&mut self, rounds: u64, longest: Duration, now: Instant) -> bool {
        if rounds != self.rounds {
            self.rounds = rounds;
            self.turned = Some(now);
        }
        let limit = standing_after(longest);
        self.turned
            .is_some_and(|turned| now.duration_since(turned) <= limit)
    }
}

async fn send(
    heartbeat: &HeartbeatConfig,
    trust: &Trust,
    secrets: &Secrets,
) -> Result<(), BeatError> {
    let limit = TIMEOUT.min(heartbeat.every.max(Duration::from_secs(1)));
    let mask = |text: String| secrets.mask().apply(&text).into_owned();
    tokio::time::timeout(limit, async {
        let url = secrets.fill_operators(&heartbeat.url).await;
        let url = url.map_err(|error| BeatError::Secret(error.to_string()))?;
        let url = reqwest::Url::parse(url.trim())
            .map_err(|error| BeatError::Address(error.to_string()))?;
        let verified = trust.config(url.scheme() == "https").await;
        let verified = verified.map_err(|error| BeatError::Request(error.to_string()))?;
        // A client a beat: nothing is kept open between two, and new roots count at once.
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured((*verified).clone())
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .http1_only()
            .pool_max_idle_per_host(0)
            .user_agent(concat!("watchfire/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| BeatError::Request(error.without_url().to_string()))?;
        let answer =
            client.get(url).send().await.map_err(|error| {
                BeatError::Request(mask(crate::error::chain(&error.without_url())))
            })?;
        // The body is nobody's business.
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(BeatError::Status(status.as_u16())),
        }
    })
    .await
    .unwrap_or_else(|_| Err(BeatError::Request(format!("no answer within {limit:?}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pipeline_that_stands_stops_it_and_one_that_turns_again_goes_on() {
        let begin = Instant::now();
        let mut turns = Turns::new();
        let every = Duration::from_secs(20);
        for (secs, rounds, wanted) in [
            (0, 0, false), // Nothing was decided yet.
            (600, 0, false),
            (601, 1, true),
            (620, 2, true),
            (690, 2, true), // Three intervals and the grace.
            (691, 2, false),
            (900, 2, false),
            (901, 3, true),
        ] {
            let now = begin + Duration::from_secs(secs);
            assert_eq!(turns.turns(rounds, every, now), wanted, "at {secs} s");
        }
    }

    #[tokio::test]
    async fn errors_name_no_address() {
        crate::sandbox::egress::tls::install_crypto_provider();
        let secrets = Secrets::new(std::collections::BTreeMap::new());
        let trust = Trust::new(Vec::new());
        for url in [
            "http://127.0.0.1:1/k3yOfTheSwitch",
            "http://k3yOfTheSwitch.invalid:notaport/",
            "{{secret:k}}",
        ] {
            let heartbeat = HeartbeatConfig {
                url: url.into(),
                every: Duration::from_secs(60),
            };
            let error = send(&heartbeat, &trust, &secrets).await.expect_err(url);
            assert!(!error.to_string().contains("k3yOfTheSwitch"), "{error}");
        }
    }
}
