//! The context of a trace, in the form of the W3C's header `traceparent`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which trace a run belongs to, and which span comes before what is done next.
///
/// ```
/// use forest_proto::TraceParent;
/// let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let parent: TraceParent = text.parse().unwrap();
/// assert!(parent.sampled);
/// assert_eq!(parent.to_string(), text);
/// assert!("00-0-0-01".parse::<TraceParent>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// Of the whole trace; not 0.
    pub trace_id: u128,
    /// Of the span that comes before; not 0.
    pub span_id: u64,
    /// Whether its spans are kept.
    pub sampled: bool,
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be like 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]
pub struct TraceParentError;

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

impl FromStr for TraceParent {
    type Err = TraceParentError;

    /// Also of later versions, which may have more behind.
    fn from_str(text: &str) -> Result<Self, TraceParentError> {
        let hex = |part: Option<&str>, len: usize| {
            let part = part.filter(|part| part.len() == len)?;
            let small = part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            small.then(|| u128::from_str_radix(part, 16).ok()).flatten()
        };
        let mut parts = text.split('-');
        let version = hex(parts.next(), 2).filter(|version| *version != 0xff).ok_or(TraceParentError)?;
        let trace_id = hex(parts.next(), 32).filter(|id| *id != 0).ok_or(TraceParentError)?;
        let span_id = hex(parts.next(), 16).and_then(|id| u64::try_from(id).ok()).filter(|id| *id != 0);
        let flags = hex(parts.next(), 2).ok_or(TraceParentError)?;
        if version == 0 && parts.next().is_some() {
            return Err(TraceParentError);
        }
        Ok(Self { trace_id, span_id: span_id.ok_or(TraceParentError)?, sampled: flags & 1 == 1 })
    }
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A text that is none counts as none: nobody's run shall be refused because of its trace.
pub(crate) fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TraceParent>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_none_is_refused() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(good.parse::<TraceParent>().is_ok());
        let later = good.replacen("00", "cc", 1) + "-what-will-be";
        assert!(later.parse::<TraceParent>().is_ok());
        for wrong in [
            "",
            "00",
            &good.to_uppercase(),
            &good.replacen("00", "ff", 1),
            &format!("{good}-more"),
            &good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &good.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &good.replace("00f067aa0ba902b7", "+0f067aa0ba902b7"),
            &good.replace("-01", "-1"),
            &good.replace("-01", ""),
        ] {
            assert_eq!(wrong.parse::<TraceParent>(), Err(TraceParentError), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn every_context_is_read_as_it_was_written(trace_id in 1_u128.., span_id in 1_u64.., sampled: bool) {
            let parent = TraceParent { trace_id, span_id, sampled };
            prop_assert_eq!(parent.to_string().parse(), Ok(parent));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            let _ = text.parse::<TraceParent>();
        }
    }
}
