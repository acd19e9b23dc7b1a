//! Fires in UTC against an independent cron library.

use croner::parser::{CronParser, Seconds, Year};
use croner::{CivilDateTime, CronDateTime, Resolution, Weekday};
use forest_proto::record::{DstFold, DstGap};
use jiff::Timestamp;
use jiff::tz::Offset;
use proptest::prelude::*;

use super::super::trigger::Schedule;
use super::expression;

/// An epoch second, as the library wants to see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Utc(i64);

impl Utc {
    fn local(self) -> jiff::civil::DateTime {
        Offset::UTC.to_datetime(Timestamp::from_second(self.0).unwrap())
    }
}

impl CronDateTime for Utc {
    fn to_civil(&self) -> CivilDateTime {
        let at = self.local();
        let part = |value: i8| u32::from(value.unsigned_abs());
        let (month, day) = (part(at.month()), part(at.day()));
        let (hour, minute, second) = (part(at.hour()), part(at.minute()), part(at.second()));
        CivilDateTime::from_ymd_hms_opt(at.year().into(), month, day, hour, minute, second).unwrap()
    }

    fn civil_weekday(&self) -> Weekday {
        Weekday::from_days_from_sunday(self.local().weekday().to_sunday_zero_offset().unsigned_abs().into())
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, croner::errors::CronError> {
        let at: jiff::civil::DateTime = civil.to_string().parse().unwrap();
        Ok(Resolution::Single(Self(Offset::UTC.to_timestamp(at).unwrap().as_second())))
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(seconds).map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Required).year(Year::Disallowed).sloppy_ranges(true).build()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn fires_in_utc_are_those_of_the_oracle(expression in expression::any(), start in 0_i64..3_000_000_000) {
        let schedule = Schedule::compile(&expression, "UTC", DstGap::NextValid, DstFold::First).unwrap();
        let oracle = parser().parse(&expression).unwrap();
        let mut at = start;
        for _ in 0..3 {
            let expected = oracle.find_next_occurrence(&Utc(at), false).unwrap().0;
            prop_assert_eq!(schedule.next_after(at * 1_000, 0), Some(expected * 1_000), "{} after {}", expression, at);
            at = expected;
        }
    }
}
