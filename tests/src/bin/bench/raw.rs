//! What etcd can do on this machine: the yardstick for everything else.

use std::time::{Duration, Instant};

use anyhow::Context;
use forest_etcd::{Change, EtcdConfig, KeyRange, Store, Txn};
use forest_tests::services::Etcd;
use tokio::task::JoinSet;

use crate::ground::{commit, etcd_options, wall_us, watch};
use crate::options::Options;
use crate::report::Report;
use crate::stats::{Sample, number};

/// Puts in one transaction: as many as etcd takes.
const PUTS: usize = 128;
/// About as long as a snapshot.
pub(crate) const DOCUMENT: usize = 550;
const SMALL: usize = 100;
/// In flight at once, where the most is asked for.
const IN_FLIGHT: usize = 4;
const ROOT: &str = "/raw-rate";

pub(crate) async fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let etcd = Etcd::start(etcd_options(options)).await?;
    let store = Store::new(&EtcdConfig::new([etcd.endpoint()]))?;
    report.circumstance("etcd", store.status().await?.version);
    // While the store is small and has nothing left to do.
    for rate in &options.rates {
        let delays = put_to_event(&etcd.endpoint(), *rate, Duration::from_secs(options.raw_seconds)).await?;
        report.figure("raw", format!("put to watch event at {rate}/s, p50"), delays.percentile(50), "ms");
        report.figure("raw", format!("put to watch event at {rate}/s, p99"), delays.percentile(99), "ms");
    }
    for bytes in [SMALL, DOCUMENT] {
        for in_flight in [1, IN_FLIGHT] {
            let rate = keys_per_second(options, &store, in_flight, bytes).await?;
            report.figure(
                "raw",
                format!("txns of 128 puts of {bytes} B, {in_flight} in flight"),
                rate,
                "keys/s",
            );
        }
    }
    Ok(())
}

/// The rate that parts a and b are compared with: what they write, in the largest transactions there are.
pub(crate) async fn yardstick(options: &Options, store: &Store) -> anyhow::Result<f64> {
    keys_per_second(options, store, IN_FLIGHT, DOCUMENT).await
}

async fn keys_per_second(
    options: &Options,
    store: &Store,
    in_flight: usize,
    bytes: usize,
) -> anyhow::Result<f64> {
    let (began, length) = (Instant::now(), Duration::from_secs(options.raw_seconds));
    let mut loops = JoinSet::new();
    for lane in 0..in_flight {
        let store = store.clone();
        loops.spawn(async move {
            let mut keys = 0;
            while began.elapsed() < length {
                let mut txn = Txn::new();
                for n in keys..keys + PUTS {
                    // As long as the keys of runs, and new each time, as they are.
                    let key =
                        format!("{ROOT}/client/snapshot/group/client-0123456789/{lane}-{bytes}-{n:024}");
                    txn = txn.put(key, vec![b'x'; bytes]);
                }
                commit(store.clone(), txn).await?;
                keys += PUTS;
            }
            anyhow::Ok(keys)
        });
    }
    let mut keys = 0;
    while let Some(joined) = loops.join_next().await {
        keys += joined??;
    }
    Ok(number(keys) / began.elapsed().as_secs_f64())
}

/// Milliseconds from a put to its event, with single puts in an open loop.
pub(crate) async fn put_to_event(endpoint: &str, rate: usize, length: Duration) -> anyhow::Result<Sample> {
    let prefix = format!("{ROOT}/event/{rate}/");
    let store = Store::new(&EtcdConfig::new([endpoint]))?;
    let mut watching = watch(endpoint, &KeyRange::prefix(&prefix))?;
    while !matches!(watching.stream.next().await.as_deref(), None | Some([.., Change::ListEnded { .. }])) {}
    let count = rate * usize::try_from(length.as_secs())?;
    let mut puts = JoinSet::new();
    puts.spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate)?);
        let mut puts = JoinSet::new();
        for n in 0..count {
            ticks.tick().await;
            let value = format!("{:020}{}", wall_us(), "x".repeat(DOCUMENT - 20));
            puts.spawn(commit(store.clone(), Txn::new().put(format!("{prefix}{n:010}"), value)));
        }
        while let Some(joined) = puts.join_next().await {
            joined??;
        }
        anyhow::Ok(())
    });
    let mut delays = Vec::with_capacity(count);
    while delays.len() < count {
        let changes = watching.stream.next().await.context("the watch ended")?;
        let now = wall_us();
        for change in changes {
            let Change::Put(kv) = change else { continue };
            let sent: i64 = std::str::from_utf8(&kv.value[..20])?.parse()?;
            delays.push(milliseconds(now - sent));
        }
    }
    while let Some(joined) = puts.join_next().await {
        joined??;
    }
    Ok(Sample::new(delays))
}

#[allow(clippy::cast_precision_loss)] // Microseconds of minutes.
pub(crate) fn milliseconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1_000.0
}
