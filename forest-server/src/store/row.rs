//! What is saved: an execution with its fencing token, and how its fields become columns.
//!
//! Owns the list of columns that are written and their widths. A text that is too long for its column is cut
//! here, at the boundary of a character, so that length alone never makes a row impossible to store.

use forest_proto::record::{Execution, MAX_PARAMS, MAX_RESULT, Outcome, Status};

use super::archive::Archived;
use super::statement::Arg;

/// How far a row is; it only grows. See [`super::upsert`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// Only a late completion is known; its decision is still to be saved.
    LateOnly = 0,
    Running = 1,
    /// Ended, but a further attempt may follow.
    Ended = 2,
    Decided = 3,
}

/// One execution as it was read from etcd.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    execution: Execution,
    fencing_token: i64,
    late: bool,
}

impl Row {
    /// `fencing_token` is the create revision of the execute record; 0 if there never was one.
    pub(crate) fn new(execution: Execution, fencing_token: i64) -> Self {
        Self { execution, fencing_token, late: false }
    }

    /// A completion that came after the run had been decided otherwise. It is stored beside the decision.
    pub(crate) fn late(execution: Execution, fencing_token: i64) -> Self {
        Self { execution, fencing_token, late: true }
    }

    /// The run.
    pub(crate) fn id(&self) -> &str {
        self.execution.snapshot.id.as_str()
    }

    /// How it ended, in a word.
    pub(crate) fn outcome(&self) -> &'static str {
        let outcome = self.execution.outcome.or_else(|| Outcome::of(self.execution.status));
        outcome.map_or("unknown", Outcome::as_str)
    }

    /// The same row without the texts that a client or a user made up, for a database that refuses them.
    pub(super) fn with_marker(&self, reason: &str) -> Self {
        let mut row = self.clone();
        let execution = &mut row.execution;
        execution.snapshot.params = "[not stored]".into();
        execution.result = format!("[not stored: {}]", cut_chars(reason, 200));
        execution.result_truncated = true;
        execution.snapshot.name = ascii(&execution.snapshot.name);
        execution.snapshot.cron = ascii(&execution.snapshot.cron);
        execution.snapshot.remark.clear();
        execution.snapshot.mobile.clear();
        row
    }

    pub(super) fn archived(&self) -> Archived {
        let Self { execution, fencing_token, late } = self.clone();
        Archived { execution, fencing_token, late }
    }

    pub(super) fn progress(&self) -> Progress {
        match self.execution.status {
            _ if self.late => Progress::LateOnly,
            Status::Running => Progress::Running,
            _ if self.execution.decided => Progress::Decided,
            _ => Progress::Ended,
        }
    }

    /// About how many bytes it adds to a statement.
    pub(super) fn weight(&self) -> usize {
        let (e, s) = (&self.execution, &self.execution.snapshot);
        let texts = [&s.name, &s.cron, &s.mobile, &s.remark, &s.create_time, &e.start_time, &e.finish_time];
        let short: usize = texts.iter().map(|text| text.len().min(1024)).sum();
        short + s.params.len().min(MAX_PARAMS) + e.result.len().min(MAX_RESULT) + 600
    }

    /// The execution, if saving it decides a run.
    pub(super) fn decided(&self) -> Option<&Execution> {
        (self.progress() == Progress::Decided).then_some(&self.execution)
    }

    /// The values of [`COLUMNS`], in their order. `counted_by`: the save that counts the run if it decides it.
    pub(super) fn values(&self, counted_by: i64) -> [Arg<'_>; COLUMNS.len()] {
        let (e, s) = (&self.execution, &self.execution.snapshot);
        let outcome = e.outcome.or_else(|| Outcome::of(e.status));
        let (result, cut) = cut_bytes(&e.result, MAX_RESULT);
        let truncated = cut || e.result_truncated;
        // Of a late completion the main columns say only what made it late.
        let on_time = !self.late;
        let or_null = |arg: Arg<'static>| if on_time { arg } else { Arg::Null };
        let or_zero = |number: i64| Arg::Int(if on_time { number } else { 0 });
        let only_late = |arg: Arg<'static>| if on_time { Arg::Null } else { arg };
        let outcome_text = |outcome: Option<Outcome>| outcome.map_or(Arg::Null, |o| Arg::text(o.as_str()));
        let main_outcome = if on_time { outcome } else { Some(Outcome::Lost) };
        [
            Arg::text(s.id.as_str()),
            Arg::text(s.job_id.as_str()),
            chars(&s.name, 128),
            Arg::text(s.group.as_str()),
            chars(&s.cron, 255),
            Arg::text(s.target.as_str()),
            Arg::text(cut_bytes(&s.params, MAX_PARAMS).0),
            chars(&s.ip, 64),
            Arg::Int(if on_time { e.status } else { Status::Unknown }.code()),
            chars(&s.mobile, 255),
            chars(&s.remark, 255),
            chars(&s.create_time, 32),
            if on_time { chars(&e.start_time, 255) } else { Arg::text("") },
            if on_time { chars(&e.finish_time, 32) } else { Arg::text("") },
            or_zero(e.times),
            if on_time { Arg::text(result) } else { Arg::text("") },
            outcome_text(main_outcome),
            Arg::text(s.origin.as_str()),
            s.cause.as_ref().map_or(Arg::Null, |cause| Arg::text(cause.as_str())),
            Arg::Int(s.attempt.into()),
            Arg::Int(s.max_attempts.into()),
            Arg::instant(s.scheduled_at),
            Arg::instant(s.created_at),
            or_null(Arg::maybe_instant(e.started_at)),
            or_null(Arg::maybe_instant(e.finished_at)),
            if on_time { Arg::count(e.duration_ms) } else { Arg::Int(0) },
            or_zero(truncated.into()),
            Arg::count(s.missed_fires),
            Arg::count(s.job_version),
            chars(&s.node, 64),
            Arg::Int(s.term),
            Arg::Int(self.fencing_token),
            only_late(outcome_text(outcome)),
            if on_time { Arg::Null } else { Arg::text(result) },
            only_late(Arg::maybe_instant(e.finished_at)),
            Arg::Int(if self.decided().is_some() { counted_by } else { 0 }),
            Arg::Int(self.progress() as i64),
        ]
    }
}

/// The columns that are written. The order is that of [`Row::values`]; `progress` must be the last one.
pub(super) const COLUMNS: [&str; 37] = [
    "id",
    "job_id",
    "name",
    "`group`",
    "cron",
    "target",
    "params",
    "ip",
    "status",
    "mobile",
    "remark",
    "create_time",
    "start_time",
    "finish_time",
    "times",
    "result",
    "outcome",
    "origin",
    "cause",
    "attempt",
    "max_attempts",
    "scheduled_at",
    "created_at",
    "started_at",
    "finished_at",
    "duration_ms",
    "result_truncated",
    "missed_fires",
    "job_version",
    "node",
    "term",
    "fencing_token",
    "late_outcome",
    "late_result",
    "late_finished_at",
    "counted_by",
    "progress",
];

fn chars(text: &str, max: usize) -> Arg<'_> {
    Arg::text(cut_chars(text, max))
}

/// A column's width counts characters.
fn cut_chars(text: &str, max: usize) -> &str {
    match text.char_indices().nth(max) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// The limits of parameters and results count bytes.
fn cut_bytes(text: &str, max: usize) -> (&str, bool) {
    let end = text.floor_char_boundary(max);
    (&text[..end], end < text.len())
}

fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::execution;
    use super::*;
    use proptest::prelude::*;

    fn value<'a>(values: &'a [Arg<'a>], column: &str) -> &'a Arg<'a> {
        &values[COLUMNS.iter().position(|c| *c == column).expect("a column")]
    }

    #[test]
    fn a_late_completion_leaves_the_decision_open_and_keeps_what_came() {
        let late = Row::late(execution(1, Some(Outcome::Succeeded), "late"), 7);
        let values = late.values(0);
        assert_eq!(value(&values, "status"), &Arg::Int(3));
        assert_eq!(value(&values, "outcome"), &Arg::text("lost"));
        assert_eq!(value(&values, "result"), &Arg::text(""));
        assert_eq!(value(&values, "late_outcome"), &Arg::text("succeeded"));
        assert_eq!(value(&values, "late_result"), &Arg::text("late"));
        assert_eq!(value(&values, "progress"), &Arg::Int(0));
    }

    #[test]
    fn a_record_of_another_program_gets_the_outcome_of_its_status() {
        let mut other = execution(1, Some(Outcome::Succeeded), "");
        other.outcome = None;
        assert_eq!(value(&Row::new(other, 1).values(0), "outcome"), &Arg::text("succeeded"));
    }

    proptest! {
        #[test]
        fn texts_fit_their_columns_whatever_they_are(name in "\\PC{0,300}", big in "\\PC{0,40}", node in any::<String>()) {
            let mut e = execution(1, Some(Outcome::Failed), "");
            e.snapshot.name = name.clone();
            e.snapshot.node = node;
            e.result = big.repeat(5000);
            let row = Row::new(e, 1);
            let values = row.values(0);
            let Arg::Text(stored) = value(&values, "name") else { panic!("text") };
            prop_assert!(stored.chars().count() <= 128 && name.starts_with(stored.as_ref()));
            let Arg::Text(result) = value(&values, "result") else { panic!("text") };
            prop_assert!(result.len() <= MAX_RESULT);
            prop_assert_eq!(value(&values, "result_truncated"), &Arg::Int((big.len() * 5000 > MAX_RESULT).into()));
        }
    }
}
