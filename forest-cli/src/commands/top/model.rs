//! What is known, which part of it the keys are about, and in which order it is shown.

use std::collections::{BTreeMap, VecDeque};

use forest_proto::RunId;
use forest_proto::admin::v1::{Client, Cluster, Event, Node, PlannedFire, Run, Waiting};
use ratatui::crossterm::event::KeyCode;

use super::lists::Lists;

/// Runs that ended last.
const ENDS: usize = 200;
/// Lines that a page key passes.
const PAGE: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Panel {
    Nodes,
    Clients,
    Running,
    Waiting,
    Plan,
    Ends,
}

impl Panel {
    pub(super) const ALL: [Self; 6] =
        [Self::Nodes, Self::Clients, Self::Running, Self::Waiting, Self::Plan, Self::Ends];

    /// The orders it can be shown in; the first one is the usual one.
    pub(super) fn orders(self) -> &'static [&'static str] {
        match self {
            Self::Nodes => &["name"],
            Self::Clients => &["load", "name"],
            Self::Running => &["age", "job", "client"],
            Self::Waiting => &["age", "count"],
            Self::Plan => &["time", "name"],
            Self::Ends => &["newest", "longest", "worst"],
        }
    }
}

/// A run at work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Running {
    pub(super) job_id: String,
    pub(super) client: String,
    pub(super) since: i64,
    /// What its handler says, in words.
    pub(super) progress: String,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) at: i64,
    pub(super) job_id: String,
    pub(super) client: String,
    pub(super) outcome: String,
    pub(super) duration_ms: i64,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) cluster: Cluster,
    pub(super) nodes: Vec<Node>,
    pub(super) clients: Vec<Client>,
    pub(super) running: BTreeMap<String, Running>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) plan: Vec<PlannedFire>,
    /// Newest first.
    pub(super) ends: VecDeque<End>,
    names: BTreeMap<String, String>,
    /// Why nothing new is known; empty: it is.
    pub(super) trouble: String,
    pub(super) panel: Panel,
    chosen: [usize; 6],
    orders: [usize; 6],
}

impl Model {
    pub(super) fn new(lists: Lists) -> Self {
        let mut model = Self {
            cluster: Cluster::default(),
            nodes: Vec::new(),
            clients: Vec::new(),
            running: BTreeMap::new(),
            waiting: Vec::new(),
            plan: Vec::new(),
            ends: VecDeque::new(),
            names: BTreeMap::new(),
            trouble: String::new(),
            panel: Panel::Running,
            chosen: [0; 6],
            orders: [0; 6],
        };
        model.take_lists(lists);
        model
    }

    /// Everything anew.
    pub(super) fn take_lists(&mut self, lists: Lists) {
        let Lists { cluster, nodes, clients, live, waiting, plan } = lists;
        self.names = BTreeMap::new();
        for run in live.iter().filter(|run| !run.job_name.is_empty()) {
            self.names.insert(run.job_id.clone(), run.job_name.clone());
        }
        for fire in &plan {
            self.names.insert(fire.job_id.clone(), fire.job_name.clone());
        }
        self.running =
            live.iter().filter(|run| run.state == "running" && !run.client.is_empty()).map(running).collect();
        (self.cluster, self.nodes, self.clients, self.waiting, self.plan) =
            (cluster, nodes, clients, waiting, plan);
        self.trouble.clear();
    }

    /// One thing more. Says whether the lists are not up to date any more.
    pub(super) fn take_event(&mut self, event: &Event) -> bool {
        match event.r#type.as_str() {
            "heartbeat" => return false,
            "run.claimed" => {
                let run = Running {
                    job_id: event.job_id.clone(),
                    client: event.client.clone(),
                    since: event.at,
                    progress: String::new(),
                };
                self.running.insert(event.run_id.clone(), run);
            }
            "run.ended" => {
                self.running.remove(&event.run_id);
                self.ends.push_front(End {
                    at: event.at,
                    job_id: event.job_id.clone(),
                    client: event.client.clone(),
                    outcome: event.outcome.clone(),
                    duration_ms: event.duration_ms,
                });
                self.ends.truncate(ENDS);
            }
            "leader.changed" => (self.cluster.leader, self.cluster.term) = (event.node.clone(), event.term),
            "leader.left" => self.cluster.leader.clear(),
            "client.left" => self.clients.retain(|client| client.id != event.client),
            "node.left" => self.nodes.retain(|node| node.id != event.node),
            _ => {}
        }
        true
    }

    /// A job by its name, or its id if that is not known.
    pub(super) fn name<'a>(&'a self, job_id: &'a str) -> &'a str {
        self.names.get(job_id).map_or(job_id, String::as_str)
    }

    pub(super) fn order(&self, panel: Panel) -> &'static str {
        panel.orders()[self.orders[panel as usize] % panel.orders().len()]
    }

    /// The chosen line of a panel that has so many.
    pub(super) fn chosen(&self, panel: Panel, lines: usize) -> usize {
        self.chosen[panel as usize].min(lines.saturating_sub(1))
    }

    fn lines(&self) -> usize {
        match self.panel {
            Panel::Nodes => self.nodes.len(),
            Panel::Clients => self.clients.len(),
            Panel::Running => self.running.len(),
            Panel::Waiting => self.waiting.len(),
            Panel::Plan => self.plan.len(),
            Panel::Ends => self.ends.len(),
        }
    }

    pub(super) fn press(&mut self, key: KeyCode) {
        let at = self.panel as usize;
        let (line, last) = (self.chosen(self.panel, self.lines()), self.lines().saturating_sub(1));
        let turn = |by: usize| Panel::ALL[(at + by) % Panel::ALL.len()];
        match key {
            KeyCode::Up => self.chosen[at] = line.saturating_sub(1),
            KeyCode::Down => self.chosen[at] = (line + 1).min(last),
            KeyCode::PageUp => self.chosen[at] = line.saturating_sub(PAGE),
            KeyCode::PageDown => self.chosen[at] = (line + PAGE).min(last),
            KeyCode::Home => self.chosen[at] = 0,
            KeyCode::End => self.chosen[at] = last,
            KeyCode::Right | KeyCode::Tab => self.panel = turn(1),
            KeyCode::Left | KeyCode::BackTab => self.panel = turn(Panel::ALL.len() - 1),
            KeyCode::Char('s') => self.orders[at] = (self.orders[at] + 1) % self.panel.orders().len(),
            _ => {}
        }
    }

    /// In the order that was chosen.
    pub(super) fn sorted_clients(&self) -> Vec<&Client> {
        let mut clients: Vec<_> = self.clients.iter().collect();
        clients.sort_by_key(|client| (client.name.clone(), client.id.clone()));
        if self.order(Panel::Clients) == "load" {
            clients.sort_by_key(|client| std::cmp::Reverse(client.queued + client.running));
        }
        clients
    }

    pub(super) fn sorted_running(&self) -> Vec<(&String, &Running)> {
        let mut runs: Vec<_> = self.running.iter().collect();
        runs.sort_by_key(|(id, run)| (run.since, *id));
        match self.order(Panel::Running) {
            "job" => runs.sort_by_key(|(_, run)| self.name(&run.job_id)),
            "client" => runs.sort_by_key(|(_, run)| run.client.as_str()),
            _ => {}
        }
        runs
    }

    pub(super) fn sorted_waiting(&self) -> Vec<&Waiting> {
        let mut waiting: Vec<_> = self.waiting.iter().collect();
        waiting.sort_by_key(|waiting| waiting.oldest_scheduled_at);
        if self.order(Panel::Waiting) == "count" {
            waiting.sort_by_key(|waiting| std::cmp::Reverse(waiting.count));
        }
        waiting
    }

    pub(super) fn sorted_plan(&self) -> Vec<&PlannedFire> {
        let mut plan: Vec<_> = self.plan.iter().collect();
        plan.sort_by_key(|fire| fire.at);
        if self.order(Panel::Plan) == "name" {
            plan.sort_by_key(|fire| fire.job_name.as_str());
        }
        plan
    }

    pub(super) fn sorted_ends(&self) -> Vec<&End> {
        let mut ends: Vec<_> = self.ends.iter().collect();
        match self.order(Panel::Ends) {
            "longest" => ends.sort_by_key(|end| std::cmp::Reverse(end.duration_ms)),
            "worst" => ends.sort_by_key(|end| end.outcome == "succeeded"),
            _ => {}
        }
        ends
    }
}

fn running(run: &Run) -> (String, Running) {
    let progress = run.progress.as_ref().map(|told| format!("{} % {}", told.percent, told.text));
    let id: Option<RunId> = run.id.parse().ok();
    let since = if run.started_at > 0 { run.started_at } else { id.map_or(0, |id| id.at().as_ms()) };
    let running = Running {
        job_id: run.job_id.clone(),
        client: run.client.clone(),
        since,
        progress: progress.unwrap_or_default(),
    };
    (run.id.clone(), running)
}
