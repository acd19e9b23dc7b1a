//! What the readers of JSON and of queries say about a value of the wrong form, in words for people.
//!
//! Their messages are all that is known of what they found. One that is not known here is handed on as it is.

/// The field that is missing or too much, if the message is about such a one, and what is wrong.
pub(super) fn said(message: &str) -> (Option<String>, String) {
    // Where in the text it is helps nobody who wrote an object.
    let message = message.split(" at line ").next().unwrap_or(message);
    let after = |words: &str| message.strip_prefix(words);
    if let Some(rest) = after("invalid type: ").or_else(|| after("invalid value: ")) {
        return (None, wrong_type(rest));
    }
    let names: Vec<_> = message.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    match names.as_slice() {
        // Of a word that is no text at all.
        [] if message == "expected value" => (None, "must be a text, and one that is known here".into()),
        [given, known @ ..] if after("unknown variant ").is_some() => {
            (None, format!("{given:?} is none of {}", known.join(", ")))
        }
        [name, known @ ..] if after("unknown field ").is_some() => {
            (Some(name.clone()), format!("is not known here: there are {}", known.join(", ")))
        }
        [name] if after("missing field ").is_some() => {
            (Some(name.clone()), "is required: it must not be empty".into())
        }
        [name] if after("duplicate field ").is_some() => {
            (Some(name.clone()), "is given more than once".into())
        }
        _ => (None, message.to_owned()),
    }
}

/// A field of what is at this path.
pub(super) fn path(at: &str, name: &str) -> String {
    let last = at.rsplit('.').next().unwrap_or_default();
    match at {
        "." | "query" => name.to_owned(),
        _ if last == name => at.to_owned(),
        _ => format!("{at}.{name}"),
    }
}

/// `integer `-1`, expected u32`.
fn wrong_type(rest: &str) -> String {
    let (found, expected) = rest.split_once(", expected ").unwrap_or((rest, ""));
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative and not too large",
        "i32" | "i64" => "a whole number that is not too large",
        "a string" | "a borrowed string" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    let found = found.replace('`', "");
    let found = match found.as_str() {
        "map" => "an object",
        "sequence" => "a list",
        "null" => "null",
        found => found,
    };
    format!("must be {expected}: it is {found}")
}

#[cfg(test)]
mod tests {
    use forest_proto::record::{DstGap, Grants};
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Thing {
        #[serde(rename = "count")]
        _count: u32,
        #[serde(default, rename = "gap")]
        _gap: DstGap,
        #[serde(default, rename = "grants")]
        _grants: Grants,
    }

    fn check(json: &str, field: Option<&str>, reason: &str) {
        let error = serde_json::from_str::<Thing>(json).expect_err(json).to_string();
        assert_eq!(said(&error), (field.map(str::to_owned), reason.to_owned()), "{error}");
    }

    #[test]
    fn what_serde_says_is_said_in_words() {
        let number = "a whole number that is not negative and not too large";
        check(r#"{"count":-1}"#, None, &format!("must be {number}: it is integer -1"));
        check(r#"{"count":"x"}"#, None, &format!("must be {number}: it is string \"x\""));
        check(r#"{"count":1.5}"#, None, &format!("must be {number}: it is floating point 1.5"));
        check(r#"{"count":[]}"#, None, &format!("must be {number}: it is a list"));
        check(r#"{"count":1,"gap":"x"}"#, None, "\"x\" is none of next_valid, skip");
        check(
            r#"{"count":1,"grants":{"everywhere":"king"}}"#,
            None,
            "\"king\" is none of viewer, operator, editor, admin",
        );
        let text = "must be a text, and one that is known here";
        check(r#"{"count":1,"grants":{"everywhere":5}}"#, None, text);
        check(r#"{}"#, Some("count"), "is required: it must not be empty");
        check(r#"{"colour":1}"#, Some("colour"), "is not known here: there are count, gap, grants");
        check(r#"{"count":1,"count":2}"#, Some("count"), "is given more than once");
        check("{", None, "EOF while parsing an object");
    }

    #[test]
    fn a_path_names_a_field_once() {
        assert_eq!((path(".", "name"), path("query", "name")), ("name".into(), "name".into()));
        assert_eq!(path("name", "name"), "name");
        assert_eq!(path("grants", "colour"), "grants.colour");
    }
}
