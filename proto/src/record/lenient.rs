//! Reading what other programs write: `null` is the zero value, a number may be text.

use serde::{Deserialize, Deserializer, de::Error as _};

/// Text; `null` is empty.
pub(super) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_default())
}

/// A whole number, also written as text; `null` and the empty text are 0.
pub(super) fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(i64),
        Text(String),
    }
    match Option::<Number>::deserialize(deserializer)? {
        None => Ok(0),
        Some(Number::Number(number)) => Ok(number),
        Some(Number::Text(text)) if text.trim().is_empty() => Ok(0),
        Some(Number::Text(text)) => text.trim().parse().map_err(D::Error::custom),
    }
}
