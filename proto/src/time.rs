//! Instants on the wire: milliseconds since the epoch inside, RFC 3339 in our own fields and the
//! original's local `yyyy-MM-dd HH:mm:ss` in the fixed fields.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Writes the milliseconds of a message as an instant, and 0 as `null`.
#[cfg(feature = "rest")]
pub(crate) fn or_null<S: Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    (*ms != 0).then(|| Instant::from_ms(*ms)).serialize(serializer)
}

/// An instant in whole milliseconds since 1970-01-01T00:00:00Z. In JSON: RFC 3339 text in UTC.
///
/// ```
/// use forest_proto::time::Instant;
/// let at = Instant::from_ms(1_795_000_000_123);
/// assert_eq!(at.to_string(), "2026-11-18T11:06:40.123Z");
/// assert_eq!("2026-11-18T12:06:40.123+01:00".parse::<Instant>().unwrap(), at);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema), schema(value_type = String, format = DateTime))]
pub struct Instant(i64);

/// The last instant that can be written: the end of the year 9998. Later ones are clamped to it.
const LAST_MS: i64 = 253_370_764_799_000;

impl Instant {
    /// From milliseconds since the epoch, clamped to the years 1970 to 9998.
    #[must_use]
    pub fn from_ms(ms: i64) -> Self {
        Self(ms.clamp(0, LAST_MS))
    }

    /// From milliseconds since the epoch, as somebody gave them.
    ///
    /// # Errors
    /// Outside of the years 1970 to 9998.
    pub fn checked(ms: i64) -> Result<Self, InstantError> {
        if (0..=LAST_MS).contains(&ms) { Ok(Self(ms)) } else { Err(InstantError) }
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn as_ms(self) -> i64 {
        self.0
    }

    fn timestamp(self) -> Timestamp {
        Timestamp::from_millisecond(self.0).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    /// `yyyy-MM-dd HH:mm:ss` on the clock of `zone`, as the original writes it.
    #[must_use]
    pub fn to_local_text(self, zone: &TimeZone) -> String {
        self.timestamp().to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// Reads the original's `yyyy-MM-dd HH:mm:ss`. In a gap or fold of the zone the earlier offset counts.
    #[must_use]
    pub fn from_local_text(text: &str, zone: &TimeZone) -> Option<Self> {
        let local = DateTime::strptime("%Y-%m-%d %H:%M:%S", text).ok()?;
        let at = zone.to_ambiguous_timestamp(local).compatible().ok()?;
        Some(Self::from_ms(at.as_millisecond()))
    }
}

impl std::fmt::Display for Instant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3}", self.timestamp())
    }
}

/// A text that is no instant of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be an instant of the years 1970 to 9998, such as 2027-10-01T08:00:00Z")]
pub struct InstantError;

impl std::str::FromStr for Instant {
    type Err = InstantError;
    /// Refuses what lies outside of what can be written: it is not what somebody means.
    fn from_str(text: &str) -> Result<Self, InstantError> {
        let ms = text.parse::<Timestamp>().map_err(|_| InstantError)?.as_millisecond();
        Self::checked(ms)
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_text_is_the_originals_form() {
        let zone = TimeZone::get("Asia/Shanghai").expect("bundled");
        let at = Instant::from_ms(1_795_000_000_000);
        assert_eq!(at.to_local_text(&zone), "2026-11-18 19:06:40");
        assert_eq!(Instant::from_local_text("2026-11-18 19:06:40", &zone), Some(at));
        assert_eq!(Instant::from_local_text("", &zone), None);
    }

    #[test]
    fn instants_out_of_range_are_clamped_not_panicking() {
        assert_eq!(Instant::from_ms(i64::MIN).as_ms(), 0);
        assert!(Instant::from_ms(i64::MAX).to_string().starts_with("9998-"));
    }

    #[test]
    fn a_text_outside_of_what_can_be_written_is_refused() {
        for text in ["1969-12-31T23:59:59.999Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "soon", ""] {
            assert_eq!(text.parse::<Instant>(), Err(InstantError), "{text}");
        }
        let last = Instant::from_ms(LAST_MS);
        assert_eq!(last.to_string().parse(), Ok(last));
        assert_eq!("1970-01-01T00:00:00Z".parse(), Ok(Instant::from_ms(0)));
    }
}
