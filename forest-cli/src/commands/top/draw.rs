//! How it looks: a head, six panels, a line of keys. A function of the model and the time.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table, TableState};

use super::model::{End, Model, Panel};
use crate::commands::pending::reason;
use crate::output::{or_dash, printable_line, span};

/// Below this the panels would have no lines.
const SMALLEST: (u16, u16) = (60, 16);

struct Look<'a> {
    model: &'a Model,
    zone: &'a TimeZone,
    now: i64,
}

/// The lines of a panel.
struct Lines {
    title: String,
    header: &'static [&'static str],
    widths: Vec<Constraint>,
    rows: Vec<(Vec<String>, Style)>,
}

pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, zone: &TimeZone, now: Timestamp) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let words = format!(
            "{} x {} is too small: at least {} x {}",
            area.width, area.height, SMALLEST.0, SMALLEST.1
        );
        return frame.render_widget(Paragraph::new(words), area);
    }
    let look = Look { model, zone, now: now.as_millisecond() };
    let [head, upper, lower, keys] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Fill(3),
        Constraint::Fill(2),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(look.head()), head);
    let [left, right] = Layout::horizontal([Constraint::Percentage(42), Constraint::Fill(1)]).areas(upper);
    let nodes_height = u16::try_from(model.nodes.len()).unwrap_or(u16::MAX).saturating_add(3).clamp(4, 8);
    let [nodes, clients] = Layout::vertical([Constraint::Max(nodes_height), Constraint::Fill(1)]).areas(left);
    let [running, waiting] = Layout::vertical([Constraint::Fill(2), Constraint::Fill(1)]).areas(right);
    let [plan, ends] = Layout::horizontal([Constraint::Percentage(42), Constraint::Fill(1)]).areas(lower);
    for (panel, area) in Panel::ALL.into_iter().zip([nodes, clients, running, waiting, plan, ends]) {
        look.panel(frame, panel, area);
    }
    frame.render_widget(Paragraph::new(look.keys()), keys);
}

impl Look<'_> {
    fn head(&self) -> Vec<Line<'static>> {
        let cluster = &self.model.cluster;
        let leader = match cluster.leader.as_str() {
            "" => Span::styled("no leader", bad()),
            name => Span::styled(printable_line(name), Style::new().add_modifier(Modifier::BOLD)),
        };
        let mut first =
            vec!["Forest ".into(), printable_line(&cluster.version).into(), "  leader ".into(), leader];
        first.push(
            format!(
                "  term {}  nodes {}  clients {}  groups {}  jobs {} ({} enabled)",
                cluster.term,
                self.model.nodes.len(),
                cluster.clients,
                cluster.groups,
                cluster.jobs,
                cluster.enabled_jobs
            )
            .into(),
        );
        let mut second = vec![Span::raw(format!(
            "running {}  queued {}  waiting {}  delayed {}  uncollected {}",
            cluster.runs_running,
            cluster.runs_queued,
            cluster.runs_pending,
            cluster.runs_delayed,
            cluster.runs_uncollected
        ))];
        for (wrong, words) in [
            (!cluster.history_available, "  history away"),
            (cluster.dispatch_held, "  dispatch held"),
            (cluster.quarantined > 0, "  unreadable keys"),
        ] {
            if wrong {
                second.push(Span::styled(words, bad()));
            }
        }
        vec![Line::from(first), Line::from(second)]
    }

    fn keys(&self) -> Line<'static> {
        if !self.model.trouble.is_empty() {
            return Line::styled(printable_line(&self.model.trouble), bad());
        }
        Line::styled(
            "q quit  Tab panel  arrows line  s sort  r read again",
            Style::new().add_modifier(Modifier::DIM),
        )
    }

    fn panel(&self, frame: &mut Frame<'_>, panel: Panel, area: Rect) {
        let Lines { title, header, widths, rows } = self.lines(panel);
        let is_chosen = self.model.panel == panel;
        let order =
            if panel.orders().len() > 1 { format!(" by {}", self.model.order(panel)) } else { String::new() };
        let border =
            if is_chosen { Style::new().fg(Color::Cyan) } else { Style::new().add_modifier(Modifier::DIM) };
        let block = Block::bordered().title(format!(" {title}{order} ")).border_style(border);
        let chosen = (is_chosen && !rows.is_empty()).then(|| self.model.chosen(panel, rows.len()));
        let rows = rows.into_iter().map(|(cells, style)| {
            Row::new(cells.into_iter().map(|cell| Cell::new(printable_line(&cell)))).style(style)
        });
        let table = Table::new(rows, widths)
            .header(Row::new(header.iter().copied()).style(Style::new().add_modifier(Modifier::BOLD)))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED))
            .block(block);
        frame.render_stateful_widget(table, area, &mut TableState::new().with_selected(chosen));
    }

    fn lines(&self, panel: Panel) -> Lines {
        let model = self.model;
        match panel {
            Panel::Nodes => Lines {
                title: format!("Nodes {}", model.nodes.len()),
                header: &["NODE", "ADDRESS", "SKEW"],
                widths: vec![Constraint::Fill(1), Constraint::Fill(1), Constraint::Length(7)],
                rows: model.nodes.iter().map(|node| self.node(node)).collect(),
            },
            Panel::Clients => Lines {
                title: format!("Clients {}", model.clients.len()),
                header: &["CLIENT", "GROUP", "BUSY"],
                widths: vec![Constraint::Fill(3), Constraint::Fill(2), Constraint::Length(9)],
                rows: model.sorted_clients().into_iter().map(client).collect(),
            },
            Panel::Running => Lines {
                title: format!("Running {}", model.running.len()),
                header: &["JOB", "CLIENT", "SINCE", "PROGRESS"],
                widths: vec![
                    Constraint::Fill(3),
                    Constraint::Fill(2),
                    Constraint::Length(8),
                    Constraint::Fill(2),
                ],
                rows: model
                    .sorted_running()
                    .into_iter()
                    .map(|(_, run)| {
                        let cells = [
                            model.name(&run.job_id).to_owned(),
                            run.client.clone(),
                            self.ago(run.since),
                            run.progress.clone(),
                        ];
                        (cells.into(), Style::new())
                    })
                    .collect(),
            },
            Panel::Waiting => Lines {
                title: format!("Waiting {}", model.waiting.iter().map(|waiting| waiting.count).sum::<u64>()),
                header: &["GROUP/TARGET", "RUNS", "SINCE", "WHY"],
                widths: vec![
                    Constraint::Fill(2),
                    Constraint::Length(6),
                    Constraint::Length(8),
                    Constraint::Fill(2),
                ],
                rows: model
                    .sorted_waiting()
                    .into_iter()
                    .map(|waiting| {
                        let place = format!("{}/{}", waiting.group, waiting.target);
                        let since = self.ago(waiting.oldest_scheduled_at);
                        (
                            vec![place, waiting.count.to_string(), since, reason(waiting).to_owned()],
                            Style::new(),
                        )
                    })
                    .collect(),
            },
            Panel::Plan => Lines {
                title: "Next fires".to_owned(),
                header: &["IN", "AT", "JOB"],
                widths: vec![Constraint::Length(8), Constraint::Length(8), Constraint::Fill(1)],
                rows: model
                    .sorted_plan()
                    .into_iter()
                    .map(|fire| {
                        let name = if fire.job_name.is_empty() { &fire.job_id } else { &fire.job_name };
                        (vec![self.until(fire.at), self.clock(fire.at), name.clone()], Style::new())
                    })
                    .collect(),
            },
            Panel::Ends => Lines {
                title: "Ended".to_owned(),
                header: &["AT", "JOB", "CLIENT", "OUTCOME", "TOOK"],
                widths: vec![
                    Constraint::Length(8),
                    Constraint::Fill(3),
                    Constraint::Fill(2),
                    Constraint::Length(15),
                    Constraint::Length(8),
                ],
                rows: model.sorted_ends().into_iter().map(|end| self.end(end)).collect(),
            },
        }
    }

    fn node(&self, node: &forest_proto::admin::v1::Node) -> (Vec<String>, Style) {
        let leads = node.id == self.model.cluster.leader;
        let name = if leads { format!("* {}", node.id) } else { format!("  {}", node.id) };
        let style = if leads { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
        (vec![name, node.address.clone(), format!("{} ms", node.clock_skew_ms)], style)
    }

    fn end(&self, end: &End) -> (Vec<String>, Style) {
        let style = match end.outcome.as_str() {
            "succeeded" => Style::new(),
            "overlap_skipped" | "misfire_skipped" | "cancelled" => Style::new().fg(Color::Yellow),
            _ => bad(),
        };
        let took = if end.duration_ms > 0 { span(end.duration_ms) } else { "-".to_owned() };
        let name = self.model.name(&end.job_id).to_owned();
        (vec![self.clock(end.at), name, or_dash(&end.client), end.outcome.clone(), took], style)
    }

    /// The time of day.
    fn clock(&self, ms: i64) -> String {
        let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH);
        at.to_zoned(self.zone.clone()).strftime("%H:%M:%S").to_string()
    }

    fn ago(&self, ms: i64) -> String {
        if ms == 0 { "-".to_owned() } else { whole(self.now - ms) }
    }

    fn until(&self, ms: i64) -> String {
        if ms <= self.now { "now".to_owned() } else { whole(ms - self.now) }
    }
}

fn client(client: &forest_proto::admin::v1::Client) -> (Vec<String>, Style) {
    let busy = format!("{}/{}", client.queued + client.running, client.capacity);
    let name = if client.name.is_empty() { &client.id } else { &client.name };
    let style = if client.draining { Style::new().fg(Color::Yellow) } else { Style::new() };
    (vec![name.clone(), client.group.clone(), busy], style)
}

fn bad() -> Style {
    Style::new().fg(Color::Red)
}

/// A length of time in its two largest units: `3s`, `5m12s`, `2h5m`, `3d4h`.
fn whole(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    let parts =
        [(seconds / 86_400, 'd'), (seconds / 3600 % 24, 'h'), (seconds / 60 % 60, 'm'), (seconds % 60, 's')];
    let first = parts.iter().position(|(count, _)| *count > 0).unwrap_or(3);
    let shown = parts.iter().skip(first).take(2).filter(|(count, _)| *count > 0);
    let text: String = shown.map(|(count, unit)| format!("{count}{unit}")).collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests;
