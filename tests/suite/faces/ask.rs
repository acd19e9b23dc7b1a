//! One thing that is asked for, in no face's words, and what came of it.

use serde_json::{Map, Value};

/// What is asked for: a verb, what it is about, and what goes with it.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) verb: &'static str,
    /// The name or id; empty where the verb has none.
    pub(super) on: String,
    pub(super) with: Map<String, Value>,
}

/// What a face said.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    pub(super) refused: bool,
    /// The stable word, where the face has one.
    pub(super) code: Option<String>,
    /// The field to blame, where the face names it apart.
    pub(super) field: Option<String>,
    /// Why, in English, without the field.
    pub(super) reason: Option<String>,
    /// The same with the field in Chinese, where the face has both.
    pub(super) chinese: Option<String>,
    /// All that was said, for people.
    pub(super) text: String,
}

impl Ask {
    /// A text; the empty one if it is not there. `None`: it is something else, which not every face can say.
    pub(super) fn text(&self, field: &str) -> Option<String> {
        match self.with.get(field) {
            None => Some(String::new()),
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => None,
        }
    }

    pub(super) fn optional_text(&self, field: &str) -> Option<Option<String>> {
        match self.with.get(field) {
            None => Some(None),
            Some(_) => self.text(field).map(Some),
        }
    }

    /// A number that this type has; 0 if it is not there.
    pub(super) fn number<T: TryFrom<i64> + Default>(&self, field: &str) -> Option<T> {
        Some(self.optional_number(field)?.unwrap_or_default())
    }

    pub(super) fn optional_number<T: TryFrom<i64>>(&self, field: &str) -> Option<Option<T>> {
        match self.with.get(field) {
            None => Some(None),
            Some(value) => Some(Some(T::try_from(value.as_i64()?).ok()?)),
        }
    }

    /// An instant as milliseconds; 0 if it is not there.
    pub(super) fn instant(&self, field: &str) -> Option<i64> {
        match self.with.get(field) {
            None => Some(0),
            Some(value) => Some(value.as_str()?.parse::<jiff::Timestamp>().ok()?.as_millisecond()),
        }
    }

    pub(super) fn document(&self) -> String {
        Value::Object(self.with.clone()).to_string()
    }
}
