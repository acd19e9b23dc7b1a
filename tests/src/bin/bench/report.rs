//! The figures: each with its unit and, where there is one, the aim and whether it is met.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::json;

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figure {
    part: &'static str,
    what: String,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aim: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
}

/// What is measured under which circumstances.
#[derive(Debug, Default)]
pub(crate) struct Report {
    circumstances: Vec<(&'static str, String)>,
    figures: Vec<Figure>,
}

impl Report {
    pub(crate) fn circumstance(&mut self, what: &'static str, text: impl Into<String>) {
        self.circumstances.push((what, text.into()));
    }

    pub(crate) fn figure(
        &mut self,
        part: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
    ) {
        self.push(Figure { part, what: what.into(), value, unit, aim: None, met: None, note: String::new() });
    }

    pub(crate) fn aimed(
        &mut self,
        part: &'static str,
        what: impl Into<String>,
        value: f64,
        unit: &'static str,
        aim: Aim,
    ) {
        let (text, met) = match aim {
            Aim::AtLeast(least) => (format!(">= {}", short(least)), value >= least),
            Aim::AtMost(most) => (format!("<= {}", short(most)), value <= most),
        };
        let (what, aim, met) = (what.into(), Some(text), Some(met));
        self.push(Figure { part, what, value, unit, aim, met, note: String::new() });
    }

    /// Says something about the figure that was added last.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        if let Some(last) = self.figures.last_mut() {
            last.note = text.into();
        }
    }

    fn push(&mut self, figure: Figure) {
        let aim = figure.aim.as_ref().map_or(String::new(), |aim| format!(" (aim {aim})"));
        crate::say(format!(
            "{}: {} = {} {}{aim}",
            figure.part,
            figure.what,
            short(figure.value),
            figure.unit
        ));
        self.figures.push(figure);
    }

    pub(crate) fn json(&self) -> String {
        let circumstances: serde_json::Map<_, _> =
            self.circumstances.iter().map(|(what, text)| ((*what).to_owned(), json!(text))).collect();
        format!("{:#}", json!({ "circumstances": circumstances, "figures": self.figures }))
    }

    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["part", "what", "value", "unit", "aim", "met", ""]);
        let mut notes = String::new();
        for figure in &self.figures {
            let met = figure.met.map_or("", |met| if met { "yes" } else { "NO" });
            let aim = figure.aim.as_deref().unwrap_or_default();
            let (value, mut mark) = (short(figure.value), String::new());
            if !figure.note.is_empty() {
                mark = format!("[{}]", notes.lines().count() + 1);
                notes += &format!("{mark} {}\n", figure.note);
            }
            table.add_row([figure.part, &figure.what, &value, figure.unit, aim, met, &mark]);
        }
        if let Some(column) = table.column_mut(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let circumstances: String =
            self.circumstances.iter().map(|(what, text)| format!("{what}: {text}\n")).collect();
        format!("{circumstances}\n{}\n\n{notes}", table.trim_fmt())
    }
}

/// Three digits that count, and no more.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        ..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
