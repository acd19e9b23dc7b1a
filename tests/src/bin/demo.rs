//! `make demo`: a tour of a real cluster on this machine.
//!
//! Starts etcd, MariaDB, three nodes and two workers on loopback, lets three jobs fire, kills the leader without a
//! warning, and then shows from the database that every fire was dispatched exactly once, by whom, and who
//! ran it. Everything it starts ends with it, also when it is interrupted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use comfy_table::{Table, presets};
use forest_proto::RunId;
use forest_tests::admin::Admin;
use forest_tests::history::{History, HistoryRow};
use forest_tests::process::{ServerOptions, ServerProcess, WorkerProcess};
use forest_tests::services::{Etcd, EtcdOptions, MariaDb};
use forest_tests::wait::eventually;
use serde_json::json;

/// How long the first leader may lead.
const FIRST_LEADER: Duration = Duration::from_secs(10);
/// How long the demo goes on after that; the second leader must first be elected.
const SECOND_LEADER: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(30);

struct Demo {
    etcd: Etcd,
    _mariadb: MariaDb,
    history: History,
    nodes: Vec<ServerProcess>,
}

struct DemoJob {
    id: String,
    what: &'static str,
    every_seconds: i64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: impl AsRef<str>) {
    println!("== {}", text.as_ref());
}

async fn run() -> anyhow::Result<()> {
    let demo = Demo::start().await?;
    let folder = tempfile::tempdir()?;
    let journal = folder.path().join("journal");
    let workers = [demo.worker("worker-1", &journal)?, demo.worker("worker-2", &journal)?];
    let admin = demo.admin();
    admin.add_group("demo").await?;
    eventually("both workers register", PATIENCE, async || {
        admin.list_clients("demo").await.is_ok_and(|clients| clients.len() == 2)
    })
    .await;
    let jobs = add_jobs(&admin).await?;
    jobs.iter().for_each(|job| say(format!("job {} fires {}", job.id, job.what)));

    say(format!("the first leader leads for {} s", FIRST_LEADER.as_secs()));
    tokio::time::sleep(FIRST_LEADER).await;
    let leader = demo.leader().await?;
    say(format!("kill -9 {} (process {})", leader.name(), leader.pid().unwrap_or(0)));
    leader.kill9();
    tokio::time::sleep(SECOND_LEADER).await;

    // Disabled first: then the fires are complete up to here.
    let until = jiff::Timestamp::now().as_millisecond();
    for job in &jobs {
        admin.disable(&job.id).await?;
    }
    let rows = demo.collected(&admin, &jobs).await?;
    show(&jobs, &rows);
    let verdict = judge(&jobs, &rows, until, &journal);
    say("shutting everything down");
    for worker in &workers {
        worker.term();
        ensure!(worker.wait_exit(PATIENCE).await.success(), "a worker did not end as it should");
    }
    for node in demo.nodes.iter().filter(|node| node.is_running()) {
        node.term();
        ensure!(node.wait_exit(PATIENCE).await.success(), "{} did not end as it should", node.name());
    }
    verdict
}

impl Demo {
    async fn start() -> anyhow::Result<Self> {
        say("starting etcd and MariaDB on loopback, in temporary folders");
        let etcd = Etcd::start(EtcdOptions::default()).await?;
        let mariadb = MariaDb::start().await?;
        let database = mariadb.database("forest").await;
        let history = History::new(&database.url)?;
        let mut nodes = Vec::new();
        for number in 1..=3 {
            let name = format!("node-{number}");
            let mut options = ServerOptions::new(vec![etcd.endpoint()], "/forest", &database.url, &name);
            options.log_level = "info".into();
            let node = ServerProcess::start(&options)?;
            say(format!("{name} answers at {}", node.address()));
            nodes.push(node);
        }
        for node in &nodes {
            node.wait_ready().await;
        }
        Ok(Self { etcd, _mariadb: mariadb, history, nodes })
    }

    fn admin(&self) -> Admin {
        Admin::new(self.nodes.iter().map(ServerProcess::address).collect())
    }

    fn worker(&self, name: &str, journal: &Path) -> anyhow::Result<WorkerProcess> {
        say(format!("starting {name}"));
        let endpoint = self.etcd.endpoint();
        let journal = journal.to_string_lossy();
        let arguments = ["--etcd", &endpoint, "--group", "demo", "--name", name, "--journal", &journal];
        Ok(WorkerProcess::start(name, arguments.map(str::to_owned).to_vec())?)
    }

    async fn leader(&self) -> anyhow::Result<&ServerProcess> {
        let leader = self.admin().cluster().await?.leader;
        let named = |node: &&ServerProcess| leader.starts_with(node.name());
        self.nodes.iter().find(named).with_context(|| format!("no node is called {leader:?}"))
    }

    /// All rows, once nothing is on its way any more.
    async fn collected(&self, admin: &Admin, jobs: &[DemoJob]) -> anyhow::Result<Vec<HistoryRow>> {
        eventually("every run is in the database", PATIENCE, async || {
            admin
                .cluster()
                .await
                .is_ok_and(|c| c.runs_pending + c.runs_queued + c.runs_running + c.runs_uncollected == 0)
        })
        .await;
        let mut rows = Vec::new();
        for job in jobs {
            rows.extend(self.history.rows(&job.id).await?);
        }
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(rows)
    }
}

async fn add_jobs(admin: &Admin) -> anyhow::Result<Vec<DemoJob>> {
    let mut jobs = Vec::new();
    let wanted = [
        ("every second", json!({"name": "tick", "cron": "@every 1s"}), 1),
        (
            "every 5 s, with parameters",
            json!({"name": "report", "cron": "@every 5s", "params": "{\"sleep_ms\": 200}", "target": "sleep"}),
            5,
        ),
        (
            "at every tenth second in Asia/Shanghai",
            json!({"name": "shanghai", "cron": "0/10 * * * * ?", "time_zone": "Asia/Shanghai"}),
            10,
        ),
    ];
    for (what, fields, every_seconds) in wanted {
        let mut job = json!({"group": "demo", "target": "echo", "overlap": "allow"});
        for (name, value) in fields.as_object().into_iter().flatten() {
            job[name] = value.clone();
        }
        jobs.push(DemoJob { id: admin.add_job(&job).await?, what, every_seconds });
    }
    Ok(jobs)
}

fn fire_of(row: &HistoryRow) -> i64 {
    row.id.parse::<RunId>().map_or(0, |run| run.at().as_ms())
}

fn show(jobs: &[DemoJob], rows: &[HistoryRow]) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["fire (UTC)", "job", "dispatched by", "term", "executed by", "outcome", "after"]);
    for row in rows {
        let job = jobs.iter().find(|job| job.id == row.job_id).map_or("", |job| job.what);
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let late = row.started_at.map_or(0, |started| started.as_ms() - fire_of(row));
        table.add_row([
            forest_proto::time::Instant::from_ms(fire_of(row)).to_string(),
            job.to_owned(),
            text(&row.node),
            row.term.unwrap_or(0).to_string(),
            text(&row.ip),
            text(&row.outcome),
            format!("{late} ms"),
        ]);
    }
    println!("{table}");
}

/// Compares the rows with the fires that there should have been.
fn judge(jobs: &[DemoJob], rows: &[HistoryRow], until: i64, journal: &Path) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    for job in jobs {
        let fires: Vec<_> = rows.iter().filter(|row| row.job_id == job.id).map(fire_of).collect();
        let first = *fires.first().with_context(|| format!("the job {} never fired", job.what))?;
        let period = job.every_seconds * 1000;
        let expected: Vec<_> = (first..=until).step_by(usize::try_from(period)?).collect();
        let seen: BTreeSet<_> = fires.iter().copied().collect();
        problems.extend(
            expected.iter().filter(|at| !seen.contains(at)).map(|at| format!("{} lost at {at}", job.what)),
        );
        if seen.len() != fires.len() {
            problems.push(format!("{} has a fire twice", job.what));
        }
    }
    let mut starts: BTreeMap<String, usize> = BTreeMap::new();
    for line in std::fs::read_to_string(journal)?.lines().filter(|line| line.starts_with("START")) {
        *starts.entry(line.split(' ').nth(1).unwrap_or_default().to_owned()).or_default() += 1;
    }
    problems.extend(
        rows.iter()
            .filter(|row| starts.get(&row.id) != Some(&1))
            .map(|row| format!("{} did not start once", row.id)),
    );
    problems.extend(
        rows.iter().filter(|row| row.outcome.as_deref() != Some("succeeded")).map(|row| format!("{row:?}")),
    );
    let leaders: BTreeSet<_> = rows.iter().filter_map(|row| row.node.clone()).collect();
    ensure!(leaders.len() >= 2, "only {leaders:?} led");
    ensure!(problems.is_empty(), "{} problem(s): {problems:#?}", problems.len());
    say(format!(
        "{} fires, each dispatched exactly once by {} leaders, each executed exactly once: nothing lost, nothing doubled",
        rows.len(),
        leaders.len()
    ));
    Ok(())
}
