//! YAML, which is JSON with fewer signs: what is read and written here are JSON values.
//!
//! Keys that are numbers or truth values become text, as in JSON. Tags and numbers that JSON does not have are
//! refused: nothing of ours has any.

use serde::Deserialize as _;
use serde_json::{Map, Number, Value as Json};
use serde_norway::{Deserializer, Value as Yaml};

use crate::error::Failure;

/// Writes one document.
pub(crate) fn text(json: &Json) -> Result<String, Failure> {
    serde_norway::to_string(json)
        .map_err(|error| Failure::refused(format!("cannot be written as YAML: {error}")))
}

/// Writes one document whose fields stand in this order.
pub(crate) fn ordered<'a>(fields: impl Iterator<Item = (&'a str, &'a Json)>) -> Result<String, Failure> {
    let wrong = |error| Failure::refused(format!("cannot be written as YAML: {error}"));
    let field = |(name, value)| Ok((Yaml::from(name), serde_norway::to_value(value)?));
    let fields = fields.map(field).collect::<Result<serde_norway::Mapping, _>>().map_err(wrong)?;
    serde_norway::to_string(&fields).map_err(wrong)
}

/// Reads all documents of a text; empty ones do not count. An error is told in words that end the sentence
/// "FILE ...".
pub(crate) fn documents(text: &str) -> Result<Vec<Json>, String> {
    let mut found = Vec::new();
    for document in Deserializer::from_str(text) {
        let mut value = Yaml::deserialize(document).map_err(|error| format!("is not YAML: {error}"))?;
        value.apply_merge().map_err(|error| format!("is not YAML: {error}"))?;
        if !value.is_null() {
            found.push(json(value)?);
        }
    }
    Ok(found)
}

fn json(yaml: Yaml) -> Result<Json, String> {
    Ok(match yaml {
        Yaml::Null => Json::Null,
        Yaml::Bool(truth) => truth.into(),
        Yaml::String(text) => text.into(),
        Yaml::Number(number) => number_of(&number)?,
        Yaml::Sequence(items) => items.into_iter().map(json).collect::<Result<_, _>>()?,
        Yaml::Mapping(fields) => {
            let fields = fields.into_iter().map(|(name, value)| Ok((key(name)?, json(value)?)));
            Json::Object(fields.collect::<Result<Map<_, _>, String>>()?)
        }
        Yaml::Tagged(tagged) => return Err(format!("has a tag, {}, which nothing needs", tagged.tag)),
    })
}

fn key(yaml: Yaml) -> Result<String, String> {
    match yaml {
        Yaml::String(text) => Ok(text),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Bool(truth) => Ok(truth.to_string()),
        _ => Err("has a key that is not text".to_owned()),
    }
}

fn number_of(number: &serde_norway::Number) -> Result<Json, String> {
    if let Some(whole) = number.as_u64() {
        return Ok(whole.into());
    }
    if let Some(whole) = number.as_i64() {
        return Ok(whole.into());
    }
    let broken = number.as_f64().and_then(Number::from_f64);
    broken.map(Json::Number).ok_or_else(|| format!("has a number that JSON does not have: {number}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_read_one_by_one() {
        let text =
            "# jobs\n---\na: 1\nb: [x, -2, 1.5, yes, ~]\n---\n---\n0: {c: \"@daily\"}\ntrue: on\n...\n";
        let expected = vec![
            json!({"a": 1, "b": ["x", -2, 1.5, "yes", null]}),
            json!({"0": {"c": "@daily"}, "true": "on"}),
        ];
        assert_eq!(documents(text), Ok(expected));
        assert_eq!(documents("# nothing\n"), Ok(vec![]));
    }

    #[test]
    fn what_several_jobs_share_is_written_once() {
        let text = "base: &base {group: trade, target: t}\njob: {<<: *base, target: u}\n";
        let expected = json!({"group": "trade", "target": "u"});
        assert_eq!(documents(text).expect("YAML")[0]["job"], expected);
    }

    #[test]
    fn what_is_not_ours_is_refused_with_its_place() {
        let wrong = |text: &str| documents(text).expect_err(text);
        assert!(wrong("cron: @daily").starts_with("is not YAML: "), "{}", wrong("cron: @daily"));
        assert!(wrong("a: 1\na: 2").contains("duplicate"), "{}", wrong("a: 1\na: 2"));
        assert!(wrong("a: !secret x").contains("!secret"));
        assert!(wrong("a: .nan").contains("JSON does not have"));
        assert!(wrong("? [a]\n: 1").contains("not text"));
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let value = json!({"cron": "0 0 2 * * ?", "text": "yes", "n": "1", "lines": "a\nb\n", "list": [1, null], "map": {}});
        let written = text(&value).expect("written");
        assert_eq!(documents(&written), Ok(vec![value]), "{written}");
    }
}
