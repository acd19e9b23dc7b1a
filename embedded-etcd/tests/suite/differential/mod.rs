//! The same random operations on a real etcd and on the embedded one: every answer, every error and every event that
//! a watch is told must be the same.
//!
//! `FOREST_DIFFERENTIAL_SEED` chooses the first seed, to replay a failure or to try others;
//! `FOREST_DIFFERENTIAL_ROUNDS` how many seeds are tried, each with new servers. A failure prints its seed and the
//! shortest list of operations that was found to fail too, after `FOREST_DIFFERENTIAL_SHRINK_SECONDS`.

mod answer;
mod operation;
mod side;
mod story;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use embedded_etcd::{Etcd, TokioClock};
use futures_util::{StreamExt, stream};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::real_etcd::{RealEtcd, program};
use crate::wire::Wire;
use answer::Answer;
use operation::{Operation, STREAMS, operations};
use side::{Side, Told, canceled_watch, looks_back};

const OPERATIONS: usize = 1_000;
const ROUNDS: u64 = 6;
/// A round mostly waits, for what etcd does a moment later.
const AT_ONCE: usize = 6;
/// How long a shorter story is looked for.
const SHRINK_SECONDS: u64 = 60;
/// etcd looks so often, or a little less often, for watches that begin in the past.
const CATCH_UP: Duration = Duration::from_millis(300);
/// What one of the two told its watches, the other tells within this time.
const AGREE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Clone)]
struct Mismatch {
    operation: usize,
    story: String,
}

#[derive(Debug, Default)]
struct Figures {
    operations: usize,
    refused: usize,
    revisions: i64,
    events: usize,
    compacted_watches: usize,
}

/// The embedded one, over TCP as the real one.
async fn embedded(tasks: &mut JoinSet<()>) -> Wire {
    let etcd = Etcd::new(TokioClock::shared());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wire = Wire::lazy(listener.local_addr().unwrap());
    let runner = etcd.clone();
    tasks.spawn(async move { runner.run(CancellationToken::new()).await });
    tasks.spawn(async move { etcd.serve(listener, CancellationToken::new()).await.unwrap() });
    wire
}

/// Both, and what is expected of them.
struct Pair {
    real: Side,
    embedded: Side,
    newest: i64,
    /// The watches of each stream that were created and not canceled.
    watches: [BTreeSet<i64>; STREAMS],
    /// When a watch of the past was created, unless it has caught up since.
    looked_back: Option<Instant>,
    figures: Figures,
    _etcd: RealEtcd,
    _tasks: JoinSet<()>,
}

async fn run(program: &Path, operations: &[Operation]) -> Result<Figures, Mismatch> {
    let mut pair = Pair::start(program).await;
    for (n, operation) in operations.iter().enumerate() {
        pair.perform(operation).await.map_err(|story| Mismatch { operation: n, story })?;
    }
    // What is told too often comes later.
    sleep(CATCH_UP).await;
    pair.agree().await.map_err(|story| Mismatch { operation: operations.len() - 1, story })?;
    Ok(Figures { operations: operations.len(), revisions: pair.newest, ..pair.figures })
}

impl Pair {
    async fn start(program: &Path) -> Self {
        let mut tasks = JoinSet::new();
        let etcd = RealEtcd::start(program).await;
        Self {
            real: Side::new(etcd.wire.clone()).await,
            embedded: Side::new(embedded(&mut tasks).await).await,
            newest: 1,
            watches: Default::default(),
            looked_back: None,
            figures: Figures::default(),
            _etcd: etcd,
            _tasks: tasks,
        }
    }

    async fn perform(&mut self, operation: &Operation) -> Result<(), String> {
        let operation = operation.at(self.newest);
        if let Operation::Watch(stream, request) = &operation
            && let Some(watch) = canceled_watch(request)
        {
            self.agree().await?;
            if !self.watches[*stream].remove(&watch) {
                self.real.tell(*stream, request.clone()).await;
                self.embedded.tell(*stream, request.clone()).await;
                return Ok(());
            }
        }
        if let Operation::Compact(_) = operation {
            // Or it would depend on luck which watches still see what goes.
            if let Some(at) = self.looked_back.take() {
                sleep_until(at + CATCH_UP).await;
            }
            self.agree().await?;
        }
        let (real, embedded) = tokio::join!(self.real.perform(&operation), self.embedded.perform(&operation));
        if real != embedded {
            return Err(format!("{operation:?}\n   real etcd: {real:?}\n    embedded: {embedded:?}"));
        }
        self.newest = real.revision().unwrap_or(self.newest);
        match real {
            Answer::Refused(..) => self.figures.refused += 1,
            Answer::Watch(answer) if answer.created && !answer.canceled => {
                if let Operation::Watch(stream, request) = operation {
                    self.watches[stream].insert(answer.watch_id);
                    if looks_back(&request) {
                        self.looked_back = Some(Instant::now());
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits until both have told their watches the same.
    async fn agree(&mut self) -> Result<(), String> {
        for stream in 0..STREAMS {
            // The embedded one answers this when it has nothing else to say.
            self.embedded.perform(&Operation::Watch(stream, operation::progress())).await;
        }
        let deadline = Instant::now() + AGREE_WITHIN;
        for stream in 0..STREAMS {
            while !self.compare(stream)? {
                if Instant::now() > deadline {
                    let (real, embedded) = (self.real.tales(stream), self.embedded.tales(stream));
                    let (real, embedded) = (real.lock().unwrap(), embedded.lock().unwrap());
                    return Err(format!(
                        "watches of stream {stream} were told more by one\n   real etcd: {real:?}\n    embedded: {embedded:?}"
                    ));
                }
                sleep(Duration::from_millis(1)).await;
            }
        }
        Ok(())
    }

    /// Takes away what both told; whether nothing is left.
    fn compare(&mut self, stream: usize) -> Result<bool, String> {
        let (real, embedded) = (self.real.tales(stream), self.embedded.tales(stream));
        let (mut real, mut embedded) = (real.lock().unwrap(), embedded.lock().unwrap());
        let mut is_empty = true;
        let watches: BTreeSet<i64> = real.keys().chain(embedded.keys()).copied().collect();
        for watch in watches {
            let (real, embedded) = (real.entry(watch).or_default(), embedded.entry(watch).or_default());
            while let (Some(one), Some(other)) = (real.front(), embedded.front()) {
                if one != other || matches!(one, Told::Wrong(_)) {
                    return Err(format!(
                        "watch {watch} of stream {stream}\n   real etcd: {one:?}\n    embedded: {other:?}"
                    ));
                }
                match one {
                    Told::Compacted(_) => self.figures.compacted_watches += 1,
                    _ => self.figures.events += 1,
                }
                real.pop_front();
                embedded.pop_front();
            }
            is_empty &= real.is_empty() && embedded.is_empty();
        }
        Ok(is_empty)
    }
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.operations += other.operations;
        self.refused += other.refused;
        self.revisions += other.revisions;
        self.events += other.events;
        self.compacted_watches += other.compacted_watches;
    }
}

/// Leaves out what is not needed to fail.
async fn shrink(
    program: &Path,
    mut operations: Vec<Operation>,
    mismatch: &Mismatch,
) -> (Vec<Operation>, Mismatch) {
    let deadline =
        Instant::now() + Duration::from_secs(number("FOREST_DIFFERENTIAL_SHRINK_SECONDS", SHRINK_SECONDS));
    let mut mismatch = mismatch.clone();
    operations.truncate(mismatch.operation + 1);
    let mut size = operations.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < operations.len() && Instant::now() < deadline {
            let mut fewer = operations.clone();
            fewer.drain(start..(start + size).min(operations.len()));
            match run(program, &fewer).await {
                Err(again) if !fewer.is_empty() => {
                    fewer.truncate(again.operation + 1);
                    (operations, mismatch) = (fewer, again);
                }
                _ => start += size,
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    (operations, mismatch)
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{variable}: {e}")))
}

fn tell(seed: u64, mismatch: &Mismatch, fewer: &[Operation], last: &Mismatch) -> String {
    let fewer: Vec<String> = fewer.iter().map(|operation| format!("  {operation:?}")).collect();
    let (story, enough, list, last) = (&mismatch.story, fewer.len(), fewer.join("\n"), &last.story);
    format!(
        "seed {seed} (FOREST_DIFFERENTIAL_SEED={seed} FOREST_DIFFERENTIAL_ROUNDS=1)\n{story}\n\
         {enough} operations are enough:\n{list}\n{last}"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_cannot_tell_the_embedded_etcd_from_a_real_one() {
    let Some(program) = program() else { return };
    let first = number("FOREST_DIFFERENTIAL_SEED", 1);
    let seeds = first..first + number("FOREST_DIFFERENTIAL_ROUNDS", ROUNDS);
    let (begin, mut all) = (Instant::now(), Figures::default());
    let rounds = seeds.map(|seed| {
        let program = &program;
        async move { (seed, run(program, &operations(seed, OPERATIONS)).await) }
    });
    let mut rounds = stream::iter(rounds).buffer_unordered(AT_ONCE);
    while let Some((seed, round)) = rounds.next().await {
        match round {
            Ok(figures) => all.add(&figures),
            Err(mismatch) => {
                drop(rounds);
                let (fewer, last) = shrink(&program, operations(seed, OPERATIONS), &mismatch).await;
                panic!("{}", tell(seed, &mismatch, &fewer, &last));
            }
        }
    }
    println!("{all:?} in {:?}", begin.elapsed());
    assert!(all.events > 0 && all.refused > 0 && all.compacted_watches > 0, "the operations say nothing");
}
