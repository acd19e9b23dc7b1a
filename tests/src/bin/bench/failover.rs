//! Part e: from the end of a leader to the first snapshot of the next.
//!
//! A hundred jobs of one second's period, ten milliseconds apart, make sure that something is always due.

use std::time::{Duration, Instant};

use anyhow::Context;
use forest_etcd::{Change, KeyRange};
use forest_proto::record::{Snapshot, decode, encode};
use forest_proto::{ClientId, JobId, RunId};
use forest_tests::cluster::ClusterNode;

use crate::ground::{Ground, LEASE_TTL, PATIENCE, Watching, above, second_after};
use crate::options::Options;
use crate::raw::milliseconds;
use crate::report::{Aim, Report};
use crate::stats::Sample;

const NODES: usize = 3;
const TICKING: usize = 100;
/// Beyond the time of the lease.
const KILL_MS: f64 = 1_000.0;
const TERM_MS: f64 = 300.0;
/// How long a leader leads before it is ended: the phase of its keep-alives is then a random one.
const REIGN: std::ops::Range<u64> = 1_000..3_000;

/// How a leader is ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    Kill,
    Term,
}

/// What the end of a leader cost.
#[derive(Debug)]
pub(crate) struct Fall {
    pub(crate) signal_to_key_ms: f64,
    pub(crate) key_to_snapshot_ms: f64,
    pub(crate) signal_to_snapshot_ms: f64,
}

/// The leader key and the snapshots, as they appear.
struct Lookout {
    leaders: Watching,
    snapshots: Watching,
}

pub(crate) async fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let ground = Ground::start(options, NODES).await?;
    start_ticking(&ground).await?;
    let kills = falls(&ground, Ending::Kill, options.kills).await?;
    tell(report, "kill -9", &kills, LEASE_TTL.as_secs_f64() * 1_000.0 + KILL_MS);
    let terms = falls(&ground, Ending::Term, options.terms).await?;
    tell(report, "SIGTERM", &terms, TERM_MS);
    Ok(())
}

async fn falls(ground: &Ground, ending: Ending, count: usize) -> anyhow::Result<Vec<Fall>> {
    let mut falls = Vec::new();
    for _ in 0..count {
        let (fallen, took) = fall(ground, ending).await?;
        falls.push(took);
        fallen.server.restart();
        fallen.server.wait_ready().await;
    }
    Ok(falls)
}

fn tell(report: &mut Report, how: &str, falls: &[Fall], most_ms: f64) {
    let sample = |value: fn(&Fall) -> f64| Sample::new(falls.iter().map(value).collect());
    let whole = sample(|fall| fall.signal_to_snapshot_ms);
    if whole.len() == 0 {
        return;
    }
    let (key, rest) = (sample(|fall| fall.signal_to_key_ms), sample(|fall| fall.key_to_snapshot_ms));
    report.figure("e", format!("{how}: signal to first snapshot, least"), whole.least(), "ms");
    report.figure("e", format!("{how}: signal to first snapshot, median"), whole.percentile(50), "ms");
    report.note(format!(
        "medians: {:.0} ms to the leader key, {:.0} ms from there",
        key.percentile(50),
        rest.percentile(50)
    ));
    report.aimed(
        "e",
        format!("{how}: signal to first snapshot, most of {}", whole.len()),
        whole.most(),
        "ms",
        Aim::AtMost(most_ms),
    );
}

/// Stores jobs that keep firing, and clients that take their runs; how many jobs.
pub(crate) async fn start_ticking(ground: &Ground) -> anyhow::Result<usize> {
    ground.register_idle_clients(1).await?;
    let first_ms = second_after(Duration::ZERO);
    let mut jobs = Vec::new();
    for n in 0..TICKING {
        let mut job = ground.job(format!("tick-{n}"))?;
        job.cron = "@every 1s".into();
        let offset_ms = i64::try_from(n * 1_000 / TICKING)?;
        job.effective_after = Some(forest_proto::time::Instant::from_ms(first_ms + offset_ms));
        jobs.push((job.id.clone(), Some(encode(&job))));
    }
    ground.write(jobs.into_iter()).await?;
    Ok(TICKING)
}

/// Ends the leader, and waits for the first snapshot of the next. The node that fell is down afterwards.
pub(crate) async fn fall(ground: &Ground, ending: Ending) -> anyhow::Result<(&ClusterNode, Fall)> {
    let mut lookout = Lookout::start(ground).await?;
    let leader = ground.cluster.leader().await;
    let term = lookout.reigning(ground).await?;
    tokio::time::sleep(Duration::from_millis(fastrand::u64(REIGN))).await;
    let signal = Instant::now();
    match ending {
        Ending::Kill => leader.server.kill9(),
        Ending::Term => leader.server.term(),
    }
    let (key, snapshot) = lookout.next_term(ground, term).await?;
    let ms = |from: Instant, to: Instant| {
        milliseconds(i64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(i64::MAX))
    };
    let took = Fall {
        signal_to_key_ms: ms(signal, key),
        key_to_snapshot_ms: ms(key, snapshot),
        signal_to_snapshot_ms: ms(signal, snapshot),
    };
    if matches!(ending, Ending::Term) {
        leader.server.wait_exit(Duration::from_secs(30)).await;
    }
    crate::say(format!("   {ending:?}: {took:?}"));
    Ok((leader, took))
}

impl Lookout {
    async fn start(ground: &Ground) -> anyhow::Result<Self> {
        let run = RunId::scheduled(&JobId::new("x")?, forest_proto::time::Instant::from_ms(0), 1);
        let snapshots = above(&ground.keys.snapshot(&ground.group, &ClientId::new("x")?, &run), 2);
        let mut lookout = Self {
            leaders: ground.watch(&KeyRange::key(&ground.keys.leader()))?,
            snapshots: ground.watch(&KeyRange::prefix(&snapshots))?,
        };
        for watching in [&mut lookout.leaders, &mut lookout.snapshots] {
            let listed = |changes: &[Change]| matches!(changes, [.., Change::ListEnded { .. }]);
            while !listed(&watching.stream.next().await.context("the watch ended")?) {}
        }
        Ok(lookout)
    }

    /// Waits for a snapshot of a term that has no successor; the term.
    async fn reigning(&mut self, ground: &Ground) -> anyhow::Result<i64> {
        let key = ground.store.get(&ground.keys.leader()).await?.context("nobody leads")?;
        let term = key.create_revision;
        let waiting = async {
            loop {
                let changes = self.snapshots.stream.next().await.context("the watch ended")?;
                if newest_term(&changes) >= term {
                    return anyhow::Ok(term);
                }
            }
        };
        tokio::time::timeout(PATIENCE, waiting).await.context("the leader dispatches nothing")?
    }

    /// When the leader key of a later term appeared, and when its first snapshot did.
    async fn next_term(&mut self, ground: &Ground, term: i64) -> anyhow::Result<(Instant, Instant)> {
        let (mut key, mut snapshot) = (None, None);
        let waiting = async {
            loop {
                if let (Some(key), Some(snapshot)) = (key, snapshot) {
                    return anyhow::Ok((key, snapshot));
                }
                tokio::select! {
                    changes = self.leaders.stream.next() => {
                        let now = Instant::now();
                        let leads = |change: &Change| matches!(change, Change::Put(kv) if kv.create_revision > term);
                        if changes.context("the watch ended")?.iter().any(leads) {
                            key.get_or_insert(now);
                        }
                    }
                    changes = self.snapshots.stream.next() => {
                        let now = Instant::now();
                        if newest_term(&changes.context("the watch ended")?) > term {
                            snapshot.get_or_insert(now);
                        }
                    }
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited.with_context(|| format!("no new leader of {} dispatches", ground.cluster.key_root()))?
    }
}

fn newest_term(changes: &[Change]) -> i64 {
    let put = |change: &Change| match change {
        Change::Put(kv) => decode::<Snapshot>(&kv.value).ok().map(|snapshot| snapshot.term),
        _ => None,
    };
    changes.iter().filter_map(put).max().unwrap_or(0)
}
