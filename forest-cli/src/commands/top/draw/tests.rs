use forest_proto::admin::v1::{Client, Cluster, Event, Node, PlannedFire, Progress, Run, Waiting};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::KeyCode;

use super::*;
use crate::commands::top::lists::Lists;

/// 2026-11-18T11:06:40Z
const T0: i64 = 1_795_000_000_000;

fn lists() -> Lists {
    let node = |n: u8, clock_skew_ms| Node {
        id: format!("n{n}"),
        address: format!("10.0.0.{n}:2856"),
        leader: n == 1,
        clock_skew_ms,
        ..Node::default()
    };
    let client = |name: &str, running, capacity| Client {
        id: format!("{name}-7f3a9"),
        name: name.into(),
        group: "trade".into(),
        running,
        capacity,
        ..Client::default()
    };
    let run = |id: &str, job: &str, started_at| Run {
        id: id.into(),
        job_id: job.into(),
        job_name: format!("job {job}"),
        client: "w1-7f3a9".into(),
        state: "running".into(),
        started_at,
        ..Run::default()
    };
    let told = Progress { percent: 40, text: "page 4".into(), at: T0 };
    Lists {
        cluster: Cluster {
            version: "0.1.0".into(),
            leader: "n1".into(),
            term: 42,
            clients: 2,
            groups: 1,
            jobs: 3,
            enabled_jobs: 2,
            runs_running: 2,
            runs_pending: 7,
            history_available: true,
            ..Cluster::default()
        },
        nodes: vec![node(1, 0), node(2, -12)],
        clients: vec![client("w1", 2, 16), client("w2", 3, 4)],
        live: vec![
            run("20261118110600000-2-1", "2", T0 - 5_000),
            Run { progress: Some(told), ..run("20261118110600000-1-1", "1", T0 - 192_000) },
            Run { state: "pending".into(), client: String::new(), ..run("20261118110600000-3-1", "3", 0) },
        ],
        waiting: vec![Waiting {
            group: "trade".into(),
            target: "bill".into(),
            count: 7,
            oldest_scheduled_at: T0 - 60_000,
            reason: "no_client".into(),
        }],
        plan: vec![PlannedFire {
            at: T0 + 90_000,
            job_id: "1".into(),
            job_name: "job 1".into(),
            ..PlannedFire::default()
        }],
    }
}

fn event(kind: &str) -> Event {
    Event { r#type: kind.into(), at: T0, ..Event::default() }
}

fn ended(job: &str, outcome: &str, duration_ms: i64) -> Event {
    Event {
        job_id: job.into(),
        run_id: format!("20261118110600000-{job}-1"),
        client: "w1-7f3a9".into(),
        outcome: outcome.into(),
        duration_ms,
        ..event("run.ended")
    }
}

fn screen(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    let now = Timestamp::from_millisecond(T0).expect("an instant");
    terminal.draw(|frame| draw(frame, model, &TimeZone::UTC, now)).expect("drawn");
    let lines = terminal.backend().to_string();
    lines.lines().map(|line| line.trim_matches('"').trim_end().to_owned() + "\n").collect()
}

#[test]
fn the_whole_cluster_on_one_screen() {
    let mut model = Model::new(lists());
    model.take_event(&ended("9", "failed", 1_500));
    let expected = "\
Forest 0.1.0  leader n1  term 42  nodes 2  clients 2  groups 1  jobs 3 (2 enabled)
running 2  queued 0  waiting 7  delayed 0  uncollected 0
┌ Nodes 2 ───────────────────────────────┐┌ Running 2 by age ──────────────────────────────────────┐
│NODE             ADDRESS         SKEW   ││JOB                 CLIENT        SINCE    PROGRESS     │
│* n1             10.0.0.1:2856   0 ms   ││job 1               w1-7f3a9      3m12s    40 % page 4  │
│  n2             10.0.0.2:2856   -12 ms ││job 2               w1-7f3a9      5s                    │
└────────────────────────────────────────┘│                                                        │
┌ Clients 2 by load ─────────────────────┐│                                                        │
│CLIENT            GROUP        BUSY     ││                                                        │
│w2                trade        3/4      ││                                                        │
│w1                trade        2/16     │└────────────────────────────────────────────────────────┘
│                                        │┌ Waiting 7 by age ──────────────────────────────────────┐
│                                        ││GROUP/TARGET         RUNS   SINCE    WHY                │
│                                        ││trade/bill           7      1m       no client would tak│
└────────────────────────────────────────┘└────────────────────────────────────────────────────────┘
┌ Next fires by time ────────────────────┐┌ Ended by newest ───────────────────────────────────────┐
│IN       AT       JOB                   ││AT       JOB           CLIENT   OUTCOME         TOOK    │
│1m30s    11:08:10 job 1                 ││11:06:40 9             w1-7f3a9 failed          1.5s    │
│                                        ││                                                        │
│                                        ││                                                        │
│                                        ││                                                        │
│                                        ││                                                        │
└────────────────────────────────────────┘└────────────────────────────────────────────────────────┘
q quit  Tab panel  arrows line  s sort  r read again
";
    assert_eq!(screen(&model, 100, 24), expected, "{}", screen(&model, 100, 24));
}

#[test]
fn events_move_runs_from_one_panel_to_the_next() {
    let mut model = Model::new(lists());
    let claimed =
        Event { job_id: "3".into(), run_id: "r3".into(), client: "w2".into(), ..event("run.claimed") };
    assert!(model.take_event(&claimed));
    assert!(
        screen(&model, 100, 24).contains("job 3               w2            0s"),
        "{}",
        screen(&model, 100, 24)
    );
    assert!(model.take_event(&Event { run_id: "r3".into(), ..ended("3", "succeeded", 20) }));
    let shown = screen(&model, 100, 24);
    assert!(shown.contains("Running 2 ") && shown.contains("succeeded       20ms"), "{shown}");
    assert!(!model.take_event(&event("heartbeat")), "nothing has changed");
    model.take_event(&event("leader.left"));
    assert!(screen(&model, 100, 24).contains("no leader"));
    model.take_event(&Event { node: "n2".into(), term: 50, ..event("leader.changed") });
    assert!(screen(&model, 100, 24).contains("leader n2  term 50"));
    for _ in 0..1000 {
        model.take_event(&ended("9", "failed", 1));
    }
    assert_eq!(model.ends.len(), 200);
    let before = model.ends.len();
    model.take_lists(lists());
    assert_eq!((model.running.len(), model.ends.len()), (2, before));
}

#[test]
fn keys_choose_panels_lines_and_orders() {
    let mut model = Model::new(lists());
    assert_eq!((model.panel, model.order(Panel::Running)), (Panel::Running, "age"));
    let first = |model: &Model| model.sorted_running()[0].1.job_id.clone();
    assert_eq!(first(&model), "1", "the oldest");
    model.take_event(&Event { job_id: "0".into(), run_id: "r0".into(), ..event("run.claimed") });
    model.press(KeyCode::Char('s'));
    assert_eq!((model.order(Panel::Running), first(&model).as_str()), ("job", "0"));
    model.press(KeyCode::Down);
    assert_eq!(model.chosen(Panel::Running, 3), 1);
    model.press(KeyCode::PageDown);
    model.press(KeyCode::Down);
    assert_eq!(model.chosen(Panel::Running, 3), 2, "not beyond the last one");
    model.press(KeyCode::Up);
    assert_eq!(model.chosen(Panel::Running, 3), 1);
    assert_eq!(model.chosen(Panel::Running, 0), 0, "nor in a list that has become empty");
    model.press(KeyCode::Tab);
    assert_eq!(model.panel, Panel::Waiting);
    model.press(KeyCode::Left);
    model.press(KeyCode::Left);
    assert_eq!(model.panel, Panel::Clients);
    let names =
        |model: &Model| model.sorted_clients().iter().map(|client| client.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&model), ["w2", "w1"]);
    model.press(KeyCode::Char('s'));
    assert_eq!(names(&model), ["w1", "w2"]);
    model.panel = Panel::Ends;
    for (job, outcome, ms) in [("1", "failed", 5), ("2", "succeeded", 9), ("3", "succeeded", 1)] {
        model.take_event(&ended(job, outcome, ms));
    }
    let ends = |model: &Model| model.sorted_ends().iter().map(|end| end.job_id.clone()).collect::<String>();
    let mut orders = Vec::new();
    for _ in 0..3 {
        orders.push(ends(&model));
        model.press(KeyCode::Char('s'));
    }
    assert_eq!(orders, ["321", "213", "132"]);
}

#[test]
fn any_size_and_any_text_can_be_drawn() {
    let mut odd = lists();
    odd.nodes[0].id = "n\u{1b}[2J\u{202e}账单".into();
    let mut model = Model::new(odd);
    model.trouble = "cannot listen: no server\ncan be reached".into();
    for (width, height) in [(1, 1), (59, 15), (60, 16), (61, 40), (400, 16), (250, 120)] {
        let shown = screen(&model, width, height);
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{202e}'));
    }
    assert!(screen(&model, 59, 15).contains("too small: at least 60 x 16"));
    assert!(screen(&model, 100, 24).contains("cannot listen: no server can be reached"));
    let empty = Model::new(Lists::default());
    assert!(screen(&empty, 80, 24).contains("no leader"));
}

#[tokio::test]
async fn it_draws_on_terminals_alone() {
    let fake = crate::fake::Fake::start().await;
    let piped = fake.cli(&["top"]).await;
    assert_eq!((piped.exit, piped.stdout.as_str()), (crate::error::Exit::Usage, ""));
    assert!(
        piped.stderr.contains("needs a terminal") && piped.stderr.contains("events -f"),
        "{}",
        piped.stderr
    );
    assert_eq!(fake.cli(&["top", "-o", "json"]).await.exit, crate::error::Exit::Usage);
    assert_eq!(fake.state().calls, 0);
}

#[test]
fn lengths_of_time_have_two_units_at_most() {
    let shown = [0, 999, 59_999, 60_000, 192_000, 7_500_000, 86_400_000, 90_000_000_000, -5].map(whole);
    assert_eq!(shown, ["0s", "0s", "59s", "1m", "3m12s", "2h5m", "1d", "1041d16h", "0s"]);
}
