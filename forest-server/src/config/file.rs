//! The configuration file: TOML with one key for each setting, and no other.
//!
//! A key that is not known is refused: a setting that is misspelt must not silently have its default. No line
//! of the file is ever quoted, because it may hold a password.

use super::fields::{FIELDS, Problem, Source, Value};

/// A configuration is small; a larger file was named by mistake.
const MAX_BYTES: u64 = 1024 * 1024;

/// The settings in the file that `path` names. What is wrong with it is added to `problems`.
pub(super) fn read(path: &Value, problems: &mut Vec<Problem>) -> Vec<(String, Value)> {
    let name = path.text.trim();
    let text = match load(name) {
        Ok(text) => text,
        Err(text) => {
            problems.push(Problem { key: "config".into(), source: Some(path.source.clone()), text });
            return Vec::new();
        }
    };
    parse(name, &text, problems)
}

fn load(name: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot read {name}: {error}");
    let size = std::fs::metadata(name).map_err(failed)?.len();
    if size > MAX_BYTES {
        return Err(format!("{name} has {size} bytes: this is no configuration file"));
    }
    std::fs::read_to_string(name).map_err(failed)
}

fn parse(name: &str, text: &str, problems: &mut Vec<Problem>) -> Vec<(String, Value)> {
    let source = || Source::File(name.to_owned());
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
            let text = format!("line {line} is not TOML; texts need quotes: key = \"value\"");
            problems.push(Problem { key: "config".into(), source: Some(source()), text });
            return Vec::new();
        }
    };
    let mut values = Vec::new();
    for (key, value) in table {
        let text = if FIELDS.iter().any(|field| field.key == key) {
            match plain(&value) {
                Some(text) if text.trim().is_empty() => continue,
                Some(text) => {
                    values.push((key, Value { text, source: source() }));
                    continue;
                }
                None => "must be a text, a number, true or false, or a list of texts".into(),
            }
        } else {
            match nearest(&key) {
                Some(known) => format!("is no setting; did you mean {known}?"),
                None => "is no setting; see --help for all".into(),
            }
        };
        let key = key.chars().take(60).collect();
        problems.push(Problem { key, source: Some(source()), text });
    }
    values
}

/// The text of a value that a setting may have.
pub(super) fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(list) => {
            let texts: Option<Vec<&str>> = list.iter().map(toml::Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

/// The setting that was probably meant.
fn nearest(key: &str) -> Option<&'static str> {
    let key: String = key.chars().take(60).collect::<String>().to_lowercase().replace('-', "_");
    let best = FIELDS.iter().map(|field| (distance(&key, field.key), field.key)).min()?;
    (best.0 <= 1 + key.len() / 4).then_some(best.1)
}

/// How many characters must be inserted, left out or replaced to turn one into the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        parse("f.toml", text, &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_misspelt_key_is_refused_with_the_right_one() {
        let check = |text: &str, expected: &str| assert_eq!(problems(text), [expected], "{text}");
        check(
            "etcd_endpoint = \"x\"",
            "etcd_endpoint (file f.toml): is no setting; did you mean etcd_endpoints?",
        );
        check(
            "etcd-endpoints = \"x\"",
            "etcd-endpoints (file f.toml): is no setting; did you mean etcd_endpoints?",
        );
        check("leaseTTL = 5", "leaseTTL (file f.toml): is no setting; did you mean lease_ttl?");
        check("colour = \"red\"", "colour (file f.toml): is no setting; see --help for all");
        check("[etcd]\nuser = \"x\"", "etcd (file f.toml): is no setting; see --help for all");
        check(
            "listen = 1.5",
            "listen (file f.toml): must be a text, a number, true or false, or a list of texts",
        );
    }

    #[test]
    fn a_line_that_is_no_toml_is_named_but_not_quoted() {
        let problems = problems("listen = \":1\"\ndb_url = mysql://u:s3cret@h/d\n");
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("line 2") && !problems[0].contains("s3cret"), "{problems:?}");
    }

    #[test]
    fn distances_are_those_of_edits() {
        assert_eq!((distance("", "abc"), distance("abc", "abc"), distance("kitten", "sitting")), (3, 0, 3));
    }
}
