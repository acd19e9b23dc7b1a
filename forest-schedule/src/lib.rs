//! When a job fires: the pure time core, for the server and for whoever asks without one.
//!
//! Owns the cron dialect, its compiled form, the rules for clock changes, fixed intervals and the cache
//! of compiled schedules. Text goes in once, when a job is saved or loaded; afterwards everything is
//! arithmetic on epoch milliseconds:
//!
//! | module | from | to |
//! | --- | --- | --- |
//! | `field` | the text of one field | ranges with steps |
//! | `cron` | an expression, in our dialect or the original's | normalised text and a `Calendar` |
//! | `text`, `ics` | days as people write them | lists of days |
//! | `days` | a job's calendars | the days left out and put in, by month |
//! | `calendar` | a local date and time | the next local date and time that matches |
//! | `zone` | a `Calendar` and a time zone | instants |
//! | `interval` | `@every 1h30m` | a period |
//! | `pauses` | days left out and a time zone | spans without fires of an interval |
//! | `trigger` | the spec of a job | a `Schedule`: next fire, number of fires in a span |
//! | `explain` | an expression | what each of its fields stands for |
//! | `notes` | two fires that follow each other | what clocks and calendars did to them |
//! | `cache` | the specs of a million jobs | one shared `Schedule` for each distinct one |
//!
//! Invariants: no clock, no I/O, no randomness in here, so that two leaders with the same binary compute the
//! same fires. The fires of a schedule strictly increase as instants, whatever its zone's clock does. No
//! input makes these functions panic or search without bound.

mod cache;
mod calendar;
mod cron;
mod days;
mod explain;
mod field;
mod ics;
mod interval;
mod notes;
mod pauses;
mod text;
mod trigger;
mod zone;

#[cfg(test)]
mod tests;

pub use cache::ScheduleCache;
pub use cron::CronError;
pub use days::Days;
pub use explain::{Part, explain};
pub use notes::{Note, sentence};
pub use text::{DayLists, read as read_days};
pub use trigger::{Schedule, ScheduleError, normalise_original};
pub use zone::{find_zone, on_clock};
