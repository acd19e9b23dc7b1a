//! How data looks: tables for people, JSON and YAML for programs, ids for both.
//!
//! Tables have no borders; ids are never wrapped, so that they can be copied. What comes from the cluster
//! is stripped of control characters before it reaches a terminal. JSON instants are RFC 3339 in UTC with
//! milliseconds, or null, whatever `--time` says.

use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, Width, presets};
use forest_proto::language::Language;
use forest_proto::time::Instant;
use jiff::fmt::friendly::{FractionalUnit, Spacing, SpanPrinter};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::args::Format;
use crate::chinese::said;
use crate::console::Console;
use crate::error::Failure;
use crate::paging::Listed;
use crate::yaml;

/// How this call wants its data.
pub(crate) struct View {
    pub(crate) format: Format,
    /// The zone of instants in tables.
    pub(crate) zone: TimeZone,
}

impl View {
    /// An instant in a table, such as `2026-11-18 19:06:40+08`; milliseconds only if there are any.
    /// `-` for none (0).
    pub(crate) fn instant(&self, ms: i64) -> String {
        let Some(at) = (ms != 0).then(|| Timestamp::from_millisecond(ms).ok()).flatten() else {
            return "-".to_owned();
        };
        let form = if ms % 1000 == 0 { "%Y-%m-%d %H:%M:%S%:::z" } else { "%Y-%m-%d %H:%M:%S%.3f%:::z" };
        at.to_zoned(self.zone.clone()).strftime(form).to_string()
    }

    /// The same without milliseconds, for lists.
    pub(crate) fn second(&self, ms: i64) -> String {
        // An instant within the first second must not become "none".
        self.instant(if ms > 1000 { ms - ms % 1000 } else { ms })
    }

    /// Shows one thing.
    pub(crate) fn show(
        &self,
        console: &mut Console,
        id: &str,
        json: &Value,
        fields: Vec<Field>,
    ) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => record(fields, console.language, console.width),
            Format::Wide => record(fields, console.language, WIDE),
            Format::Name if id.is_empty() => return Err(Failure::usage("-o name: this has no name")),
            Format::Name => line(id),
            Format::Json | Format::Jsonl | Format::Yaml => self.document(json)?,
        };
        console.print(&text)
    }

    /// Shows what is for programs alone, or as good as nothing for people.
    pub(crate) fn data(&self, console: &mut Console, json: &Value) -> Result<(), Failure> {
        console.print(&self.document(json)?)
    }

    fn document(&self, json: &Value) -> Result<String, Failure> {
        Ok(match self.format {
            Format::Yaml => yaml::text(json)?,
            Format::Jsonl => format!("{json}\n"),
            _ => format!("{json:#}\n"),
        })
    }

    /// Shows a list. `what` is its name in JSON and in messages.
    pub(crate) fn list<T>(
        &self,
        console: &mut Console,
        what: &str,
        listed: &Listed<T>,
        list: &List<'_, T>,
    ) -> Result<(), Failure> {
        let entries = &listed.items;
        match self.format {
            Format::Json | Format::Yaml => {
                let mut answer = json!({ what: entries.iter().map(list.json).collect::<Vec<_>>() });
                if let Some(more) = listed.more {
                    answer["more"] = more.into();
                }
                return self.data(console, &answer);
            }
            Format::Jsonl => console
                .print(&entries.iter().map(|entry| line_of(&(list.json)(entry))).collect::<String>())?,
            Format::Name => {
                console.print(&entries.iter().map(|entry| line(&(list.id)(entry))).collect::<String>())?
            }
            Format::Table | Format::Wide if entries.is_empty() => console.note(&format!("no {what}")),
            Format::Table => {
                let header = headings(list.header, console.language);
                let rows =
                    entries.iter().map(|entry| (list.row)(entry).into_iter().take(list.narrow).collect());
                console.print(&table(&header[..list.narrow.min(header.len())], rows, console.width))?;
            }
            Format::Wide => {
                let header = headings(list.header, console.language);
                console.print(&table(&header, entries.iter().map(list.row), WIDE))?;
            }
        }
        if listed.more == Some(true) {
            console.note(&format!("there are more {what}: use --limit N or --all"));
        }
        Ok(())
    }
}

/// How the entries of a list look.
pub(crate) struct List<'a, T> {
    /// What an entry is called by where only that is wanted.
    pub(crate) id: &'a dyn Fn(&T) -> String,
    /// The first column holds what must not be wrapped.
    pub(crate) header: &'a [&'a str],
    /// So many columns have room on a page; `wide` shows all.
    pub(crate) narrow: usize,
    pub(crate) row: &'a dyn Fn(&T) -> Vec<String>,
    pub(crate) json: &'a dyn Fn(&T) -> Value,
}

/// A name and a value.
pub(crate) type Field = (String, String);

/// A field whose name is known beforehand.
pub(crate) fn field(name: &str, value: impl Into<String>) -> Field {
    (name.to_owned(), value.into())
}

/// One line of an id. It may come from a cluster that others write to.
fn line(id: &str) -> String {
    printable_line(id) + "\n"
}

fn line_of(json: &Value) -> String {
    format!("{json}\n")
}

/// An instant in JSON.
pub(crate) fn instant_json(ms: i64) -> Value {
    if ms == 0 { Value::Null } else { Instant::from_ms(ms).to_string().into() }
}

/// A length of time in one word, such as `150ms`, `1.5s` or `1m30s`.
pub(crate) fn span(ms: i64) -> String {
    let fraction = (ms >= 1000).then_some(FractionalUnit::Second);
    let printer = SpanPrinter::new().spacing(Spacing::None).fractional(fraction);
    printer.duration_to_string(&SignedDuration::from_millis(ms))
}

/// `-` in place of nothing.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// One line without control characters.
pub(crate) fn printable_line(text: &str) -> String {
    printable(text).replace('\n', " ")
}

/// Control characters could steer the terminal. Line breaks stay.
pub(crate) fn printable(text: &str) -> String {
    text.trim_end()
        .replace("\r\n", "\n")
        .chars()
        .map(|c| match c {
            '\t' => ' ',
            '\n' => c,
            c if c.is_control() || is_bidi_control(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// These reorder the text around them.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// As wide as anything: nothing is wrapped.
const WIDE: u16 = u16::MAX / 2;

/// Between columns.
const GAP: u16 = 2;

/// A column that must be made narrower than its longest word keeps at least this: the time of day with
/// its offset fits.
const NARROWEST: u16 = 11;

fn finish(mut table: Table, width: u16) -> String {
    let narrowest = narrowest(&table, width);
    for (column, lower) in table.column_iter_mut().zip(narrowest) {
        let lower = ColumnConstraint::LowerBoundary(Width::Fixed(lower.saturating_add(GAP)));
        column.set_padding((0, GAP)).set_constraint(lower);
    }
    // The gap after the last column is cut off again.
    table.set_width(width.saturating_add(GAP));
    if let Some(first) = table.column_mut(0) {
        first.set_constraint(ColumnConstraint::ContentWidth);
    }
    table.trim_fmt() + "\n"
}

/// How narrow each column may be made: as wide as its longest word, or less if that does not fit.
fn narrowest(table: &Table, width: u16) -> Vec<u16> {
    let mut columns = longest_words(table);
    let total =
        |columns: &[u16]| columns.iter().map(|lower| usize::from(*lower) + usize::from(GAP)).sum::<usize>();
    while total(&columns) > usize::from(width) + usize::from(GAP) {
        // Of the widest ones the first, as names stand before instants. The id stays whole.
        let rest = columns.iter_mut().skip(1).rev();
        match rest.max_by_key(|lower| **lower).filter(|lower| **lower > NARROWEST) {
            Some(widest) => *widest -= 1,
            None => break,
        }
    }
    columns
}

fn longest_words(table: &Table) -> Vec<u16> {
    let mut words = Table::new();
    for row in table.header().into_iter().chain(table.row_iter()) {
        let lines = |cell: &Cell| cell.content().split_whitespace().collect::<Vec<_>>().join("\n");
        words.add_row(row.cell_iter().map(lines).collect::<Vec<_>>());
    }
    words.column_max_content_widths()
}

fn headings(header: &[&str], language: Language) -> Vec<String> {
    header.iter().map(|heading| said(language, heading)).collect()
}

fn table(header: &[impl AsRef<str>], rows: impl Iterator<Item = Vec<String>>, width: u16) -> String {
    let mut table = plain();
    table.set_header(header.iter().map(AsRef::as_ref));
    for row in rows {
        table.add_row(row.iter().map(|text| Cell::new(printable_line(text))).collect::<Vec<_>>());
    }
    finish(table, width)
}

fn record(fields: Vec<Field>, language: Language, width: u16) -> String {
    let mut table = plain();
    for (name, value) in fields {
        let name = Cell::new(printable_line(&said(language, &name))).set_alignment(CellAlignment::Left);
        table.add_row(vec![name, Cell::new(printable(&value))]);
    }
    finish(table, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(zone: &str) -> View {
        View { format: Format::Table, zone: TimeZone::get(zone).expect("bundled") }
    }

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|&text| text.to_owned()).collect()).collect()
    }

    #[test]
    fn instants_carry_their_offset() {
        let at = 1_795_000_000_000;
        assert_eq!(view("Asia/Shanghai").instant(at), "2026-11-18 19:06:40+08");
        assert_eq!(view("Asia/Kolkata").instant(at + 5), "2026-11-18 16:36:40.005+05:30");
        assert_eq!(view("UTC").second(at + 5), "2026-11-18 11:06:40+00");
        assert_eq!(view("UTC").instant(0), "-");
        assert_eq!(view("UTC").instant(i64::MAX), "-");
        assert_eq!(view("UTC").second(1), "1970-01-01 00:00:00.001+00");
        assert_eq!(instant_json(at + 5), "2026-11-18T11:06:40.005Z");
        assert_eq!(instant_json(0), Value::Null);
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let text = table(
            &["ID", "NAME", "GROUP"],
            rows(&[&["1", "账单", "trade"], &["20", "bill", "trade"]]).into_iter(),
            80,
        );
        let expected = "\
ID  NAME  GROUP
1   账单  trade
20  bill  trade
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_narrow_page_wraps_everything_but_the_id() {
        let row: &[&str] = &["20261118110640000-1-1", "a name of several words", "2026-11-18 19:06:40+08"];
        let text = table(&["RUN", "JOB", "CREATED"], rows(&[row]).into_iter(), 48);
        let expected = "\
RUN                    JOB        CREATED
20261118110640000-1-1  a name of  2026-11-18
                       several    19:06:40+08
                       words
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_list_of_jobs_fits_a_page_of_80_columns() {
        let one: &[&str] = &["20261121090000123456", "nightly-settlement", "trade", "settlement"];
        let two: &[&str] = &["20261121090000123457", "每日账单", "trade", "billing"];
        let one = [one, &["0 0 2 * * ?", "2026-11-18 19:06:40+08"]].concat();
        let two = [two, &["@every 90s", "disabled"]].concat();
        let header = ["JOB", "NAME", "GROUP", "TARGET", "CRON", "NEXT FIRE"];
        let text = table(&header, rows(&[&one, &two]).into_iter(), 80);
        let expected = "\
JOB                   NAME                GROUP  TARGET      CRON    NEXT FIRE
20261121090000123456  nightly-settlement  trade  settlement  0 0 2   2026-11-18
                                                             * * ?   19:06:40+08
20261121090000123457  每日账单            trade  billing     @every  disabled
                                                             90s
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_list_of_runs_fits_a_page_of_80_columns() {
        let one: &[&str] = &["20261118110640000-20261121090000123456-1", "nightly-settlement"];
        let one = [one, &["2026-11-18 19:06:40+08", "succeeded in 1.5s"]].concat();
        let text = table(&["RUN", "JOB", "CREATED", "STATE"], rows(&[&one]).into_iter(), 80);
        let expected = "\
RUN                                       JOB             CREATED      STATE
20261118110640000-20261121090000123456-1  nightly-settle  2026-11-18   succeeded
                                          ment            19:06:40+08  in 1.5s
";
        assert_eq!(text, expected, "{text}");
    }

    #[test]
    fn a_record_keeps_the_lines_of_a_result() {
        let fields = vec![field("id", "7"), field("result", "one\ntwo\u{1b}[2J\n")];
        let expected = "\
id      7
result  one
        two\u{fffd}[2J
";
        assert_eq!(record(fields, Language::English, 80), expected);
    }

    #[test]
    fn spans_are_readable() {
        let spans = [span(0), span(150), span(1234), span(90_000), span(5_400_500)];
        assert_eq!(spans, ["0s", "150ms", "1.234s", "1m30s", "1h30m0.5s"]);
    }
}
