//! A broadcast and its shards as documents: what each shard is given, and how the whole of it ended.
//!
//! Pure: nothing here knows where these documents are kept, or when they are written.

use std::fmt::Write;

use forest_proto::ClientId;
use forest_proto::record::{Execution, MAX_SHARDS, Outcome, ShardParams, Snapshot, Spread};

use super::compose::Composer;

/// Of shards that ended alike, so many are named.
const NAMED: usize = 20;

/// A broadcast to these clients. Refused, with the reason, if there can be no shard for each.
pub(crate) fn begin(
    composer: &Composer<'_>,
    snapshot: &Snapshot,
    clients: Vec<ClientId>,
) -> Result<Spread, String> {
    if clients.len() > MAX_SHARDS as usize {
        let count = clients.len();
        return Err(format!("there are {count} clients, and a broadcast goes to at most {MAX_SHARDS}"));
    }
    if snapshot.id.shard_run(MAX_SHARDS).is_none() {
        return Err("the id of the job is too long for a broadcast: it may have 29 characters".into());
    }
    Ok(Spread {
        snapshot: snapshot.clone(),
        spread_at: composer.now(),
        clients,
        created: 0,
        ended: Default::default(),
        stopping: None,
    })
}

/// What the next shard to create is given.
pub(crate) fn next_shard(composer: &Composer<'_>, spread: &Spread) -> Option<Snapshot> {
    let (whole, index) = (&spread.snapshot, spread.created);
    if index >= spread.total() {
        return None;
    }
    Some(Snapshot {
        id: whole.id.shard_run(index)?,
        create_time: composer.now().to_local_text(&composer.defaults.zone),
        created_at: composer.now(),
        node: composer.term.node().to_string(),
        term: composer.term.number(),
        waits: false,
        followed: true,
        shard: Some(spread.shard(index)),
        shard_params: ShardParams::default(),
        ..whole.clone()
    })
}

/// The record of a broadcast whose shards have all ended.
pub(crate) fn end(composer: &Composer<'_>, spread: Spread) -> Execution {
    let (outcome, result) = (outcome(&spread), result(&spread));
    let mut execution = Execution::claimed(spread.snapshot, spread.spread_at);
    let took = composer.now_ms - spread.spread_at.as_ms();
    execution.finish(outcome, result, composer.now(), u64::try_from(took).unwrap_or(0));
    execution.decided = true;
    execution.snapshot.checkpoint = None;
    execution
}

fn ends(spread: &Spread) -> impl Iterator<Item = (u32, Outcome)> {
    // What was stopped before it was created never ran.
    (0..spread.total()).map(|index| (index, spread.ended.get(&index).copied().unwrap_or(Outcome::Cancelled)))
}

fn outcome(spread: &Spread) -> Outcome {
    if ends(spread).all(|(_, outcome)| outcome == Outcome::Succeeded) {
        Outcome::Succeeded
    } else if spread.stopping.is_some() {
        Outcome::Cancelled
    } else {
        Outcome::Failed
    }
}

fn result(spread: &Spread) -> String {
    let total = spread.total();
    let succeeded = ends(spread).filter(|(_, outcome)| *outcome == Outcome::Succeeded).count();
    let mut text = format!("{succeeded} of {total} shards succeeded");
    for kind in [Outcome::Failed, Outcome::TimedOut, Outcome::Lost, Outcome::NoClient, Outcome::Cancelled] {
        let of_kind: Vec<_> = ends(spread).filter(|(_, outcome)| *outcome == kind).collect();
        let named: Vec<_> = of_kind.iter().take(NAMED).map(|(index, _)| index.to_string()).collect();
        if !named.is_empty() {
            let _ = write!(text, "; {}: {}", kind.as_str(), named.join(", "));
        }
        if of_kind.len() > NAMED {
            let _ = write!(text, " and {} more", of_kind.len() - NAMED);
        }
    }
    if let Some(why) = &spread.stopping {
        let _ = write!(text, "; {why}");
    }
    text
}
