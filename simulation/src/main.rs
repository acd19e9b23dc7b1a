//! `sim`: runs seeds, tells the story of one, and looks whether defects are found.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use clap::{Parser, Subcommand};
use forest_etcd::{Clock, SystemClock};
use forest_simulation::checker::Violation;
use forest_simulation::mutant::{MUTANTS, Mutant};
use forest_simulation::plan::{Plan, Stage};
use forest_simulation::run::{self, Outcome};
use forest_simulation::{shrink, story};

/// Whole Forest clusters on virtual time, with faults from a seed.
#[derive(Parser)]
#[command(name = "sim", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run seeds and check every promise; exit code 1 if one was broken
    Run {
        /// How many
        #[arg(long, default_value_t = 500)]
        seeds: u64,
        /// The first one
        #[arg(long, default_value_t = 0)]
        from: u64,
        #[arg(long, default_value_t = threads())]
        threads: usize,
    },
    /// Run one seed again, leave out of it what does not matter, and tell the story
    Replay {
        seed: u64,
        /// With this defect (see `sim mutants`)
        #[arg(long)]
        mutant: Option<String>,
        /// Tell it with everything that the plan has
        #[arg(long)]
        whole: bool,
        /// What nodes and workers log meanwhile, for example `debug`
        #[arg(long)]
        log: Option<String>,
    },
    /// Take one guard after the other away, and see whether the checker finds it
    Mutants {
        /// Only those whose name contains this
        #[arg(long, default_value = "")]
        name: String,
        /// Try so many seeds in place of each mutant's own limit
        #[arg(long)]
        within: Option<u64>,
        #[arg(long, default_value_t = threads())]
        threads: usize,
    },
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Run { seeds, from, threads } => run_seeds(from, seeds, threads),
        Command::Replay { seed, mutant, whole, log } => {
            replay(seed, mutant.as_deref(), whole, log.as_deref())
        }
        Command::Mutants { name, within, threads } => mutants(&name, within, threads),
    }
}

/// What came of many seeds.
#[derive(Default)]
struct Sum {
    seeds: u64,
    faults: u64,
    messages: u64,
    simulated: Duration,
    failed: BTreeMap<u64, Violation>,
}

impl Sum {
    fn add(&mut self, plan: &Plan, outcome: Outcome) {
        self.seeds += 1;
        self.faults += plan.faults() as u64;
        self.messages += outcome.messages;
        self.simulated += Duration::from_millis(outcome.simulated_ms);
        if let Some(violation) = outcome.violations.into_iter().next() {
            self.failed.insert(plan.seed, violation);
        }
    }
}

/// Hands out the numbers of a range to threads, until one of them says that it is enough.
fn spread(from: u64, count: u64, threads: usize, work: impl Fn(u64) -> bool + Sync) {
    let (next, enough) = (AtomicU64::new(from), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while !enough.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + count {
                        return;
                    }
                    if work(seed) {
                        enough.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
}

fn run_seeds(from: u64, seeds: u64, threads: usize) -> ExitCode {
    if !repeats(from) {
        println!(
            "seed {from} does not repeat itself: build with `make sim`, which sets tokio's own seed too"
        );
        return ExitCode::FAILURE;
    }
    let (began, sum) = (SystemClock.boot(), Mutex::new(Sum::default()));
    let told = (seeds / 10).max(1);
    spread(from, seeds, threads, |seed| {
        let plan = Plan::of_seed(seed);
        let outcome = run::run(&plan, None);
        let failed = outcome.violations.first().cloned();
        let Ok(mut sum) = sum.lock() else { return true };
        sum.add(&plan, outcome);
        if let Some(violation) = failed {
            println!("seed {seed}: {violation}");
        }
        if sum.seeds.is_multiple_of(told) {
            println!(
                "{:>7} of {seeds} seeds, {} failed, {:.1?}",
                sum.seeds,
                sum.failed.len(),
                SystemClock.boot() - began
            );
        }
        false
    });
    let (sum, took) = (sum.into_inner().unwrap_or_default(), SystemClock.boot() - began);
    println!(
        "{} seeds: {} faults, {} messages, {:.1} h of simulated time in {:.1?}; {:.0} faults a minute",
        sum.seeds,
        sum.faults,
        sum.messages,
        sum.simulated.as_secs_f64() / 3600.0,
        took,
        faults_a_minute(sum.faults, took)
    );
    let Some(first) = sum.failed.keys().next() else { return ExitCode::SUCCESS };
    println!("{} seeds broke a promise; the first one's story: sim replay {first}", sum.failed.len());
    ExitCode::FAILURE
}

#[allow(clippy::cast_precision_loss)] // For people.
fn faults_a_minute(faults: u64, took: Duration) -> f64 {
    faults as f64 * 60.0 / took.as_secs_f64().max(0.001)
}

/// Whether a seed tells the same story twice.
fn repeats(seed: u64) -> bool {
    let plan = Plan::of_seed(seed);
    run::run(&plan, None).entries == run::run(&plan, None).entries
}

fn replay(seed: u64, mutant: Option<&str>, whole: bool, log: Option<&str>) -> ExitCode {
    let (defect, stage) = match mutant.map(|name| MUTANTS.iter().find(|mutant| mutant.name == name)) {
        Some(None) => {
            println!("there is no such mutant; `sim mutants` lists them");
            return ExitCode::from(2);
        }
        Some(Some(mutant)) => (Some(mutant.defect), mutant.stage),
        None => (None, Stage::Any),
    };
    let mut plan = Plan::on(stage, seed);
    let mut outcome = run::run(&plan, defect);
    if let Some(violation) = outcome.violations.first().filter(|_| !whole) {
        println!("seed {seed}: {violation}\nleaving out what does not matter ...");
        let before = plan.events.len();
        plan = shrink::shrink(&plan, defect, violation.promise);
        println!("{} of {before} events are left", plan.events.len());
    }
    if let Some(filter) = log {
        let log =
            tracing_subscriber::fmt().with_env_filter(filter).with_timer(SimulatedTime).with_ansi(false);
        log.with_writer(std::io::stdout).init();
    }
    outcome = run::run(&plan, defect);
    println!("\n{}\n{}", story::plan(&plan), story::history(&plan, &outcome.entries, &outcome.violations));
    println!("seed {seed}: {} promises broken", outcome.violations.len());
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct SimulatedTime;

impl tracing_subscriber::fmt::time::FormatTime for SimulatedTime {
    fn format_time(&self, writer: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        let at = forest_simulation::clock::simulated_ms();
        write!(writer, "{:>4}.{:03}", at / 1000, at % 1000)
    }
}

fn mutants(name: &str, within: Option<u64>, threads: usize) -> ExitCode {
    let chosen: Vec<&Mutant> = MUTANTS.iter().filter(|mutant| mutant.name.contains(name)).collect();
    println!("{:<22} {:>8} {:>8}  found as", "mutant", "within", "seeds");
    let (began, mut alive) = (SystemClock.boot(), 0);
    for mutant in &chosen {
        let limit = within.unwrap_or(mutant.within);
        let found: Mutex<BTreeMap<u64, Violation>> = Mutex::default();
        spread(0, limit, threads, |seed| {
            let plan = Plan::on(mutant.stage, seed);
            let violation = run::run(&plan, Some(mutant.defect)).violations.into_iter().next();
            // Not if it is no fault of the defect's.
            let violation = violation.filter(|_| run::run(&plan, None).violations.is_empty());
            let is_found = violation.is_some();
            if let (Some(violation), Ok(mut found)) = (violation, found.lock()) {
                found.insert(seed, violation);
            }
            is_found
        });
        match found.into_inner().unwrap_or_default().pop_first() {
            Some((seed, violation)) => {
                println!("{:<22} {limit:>8} {:>8}  {violation}", mutant.name, seed + 1);
            }
            None => {
                alive += 1;
                println!("{:<22} {limit:>8}    ALIVE", mutant.name);
            }
        }
    }
    println!("{} mutants, {alive} alive, {:.1?}", chosen.len(), SystemClock.boot() - began);
    if alive == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
