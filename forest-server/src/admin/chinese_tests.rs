//! Whether what the sources say to callers has its Chinese.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;

/// Where what is said to callers stands.
const PLACES: [&str; 7] =
    ["admin", "access", "http", "../../forest-schedule/src", "grpc", "scheduler/handle.rs", "store/query.rs"];
/// What is said elsewhere: of fires and of runs that there are, in documents of the API, in logs, in other forms.
const OTHERS: [&str; 7] = [
    "admin/chinese.rs",
    "admin/chinese_tests.rs",
    "admin/explain.rs",
    "admin/shape.rs",
    "../../forest-schedule/src/explain.rs",
    "../../forest-schedule/src/notes.rs",
    "http/origin.rs",
];
/// On a line of these a text is for somebody else.
const NOT_SAID: [&str; 9] = [
    "tracing::",
    "unreachable!(",
    "expect(\"",
    "description =",
    "name = \"",
    "example",
    "SELECT",
    "//",
    "warn!(",
];
/// Texts that are part of others, or are no sentences of a refusal.
const PARTS: [&str; 32] = [
    "forest oidc {} {}",
    "must be the ETag of a job, such as \\",
    "first start",
    "each night",
    "in group {}",
    "cron: {}",
    "is not 0",
    "{} (from minutes)",
    "number or name",
    "{} is not a {}",
    "{}: {}",
    "csrf {}",
    "overlap queue_all",
    "misfire fire_all",
    "a change is stored but not in this node's view yet",
    "it does not fire: {}",
    "it follows job {}, which does not exist",
    "not ready: add ?verbose for why\\n",
    "2027-10-01..2027-10-07 # golden week",
    "Administration of a Forest cluster. Any node answers any call.",
    "Precondition Failed",
    "{} does not exist on {}: fires at {}",
    "{} does not exist on {}: left out",
    "{} comes twice on {}: fires the first time only",
    "{} comes twice on {}: this is the {} time",
    "{} to {}",
    "{} fire{} left out by {}: {}",
    "put in by {}: {}",
    "{}-{}-{} {}:{}:{}",
    "log in",
    "log out",
    "a calendar",
];

fn files(at: &Path, found: &mut Vec<PathBuf>) {
    if at.is_file() {
        return found.push(at.to_owned());
    }
    for entry in std::fs::read_dir(at).expect("a folder") {
        files(&entry.expect("an entry").path(), found);
    }
}

/// The text literals of a source before its tests, with holes for what is filled in.
fn texts(source: &str) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut found = BTreeSet::new();
    let joined = source.replace("\\\n", "\u{0}");
    for line in joined.lines().filter(|line| !NOT_SAID.iter().any(|other| line.contains(other))) {
        for text in line.split('"').skip(1).step_by(2) {
            let mut form = String::new();
            let mut rest = text;
            while let Some((before, after)) = rest.split_once('{') {
                form += before;
                form += "{}";
                rest = after.split_once('}').map_or("", |(_, rest)| rest);
            }
            form += rest;
            let words =
                form.split(' ').filter(|word| word.bytes().all(|b| b.is_ascii_lowercase()) && word.len() > 1);
            if words.count() >= 2 && !form.contains('\u{0}') {
                found.insert(form);
            }
        }
    }
    found
}

#[test]
fn whatever_is_refused_is_refused_in_chinese_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    PLACES.iter().for_each(|place| files(&root.join(place), &mut sources));
    let (mut seen, mut missing) = (0, Vec::new());
    for file in sources {
        let name = file.strip_prefix(&root).expect("below it").to_string_lossy().into_owned();
        if OTHERS.contains(&name.as_str()) || name.contains("tests") {
            continue;
        }
        for text in texts(&std::fs::read_to_string(&file).expect("text")) {
            seen += 1;
            let form =
                text.strip_prefix("cron: ").or_else(|| text.strip_prefix("time_zone: ")).unwrap_or(&text);
            if !PARTS.contains(&form) && CATALOGUE.chinese(&form.replace("{}", "x")).is_none() {
                missing.push(format!("{name}: {text}"));
            }
        }
    }
    assert!(missing.is_empty(), "say these in admin/chinese.rs too:\n{}", missing.join("\n"));
    assert!(seen > 120, "only {seen} texts were looked at");
}

#[test]
fn each_pair_says_the_same_things() {
    let mut forms = BTreeSet::new();
    for (form, chinese) in CATALOGUE.pairs() {
        assert!(forms.insert(form), "{form} is there twice");
        for index in 0..form.matches("{}").count() {
            let hole = format!("{{{index}}}");
            let left_out = form.starts_with("{} {}: write index=value") && index == 1;
            assert!(chinese.contains(&hole) || left_out, "{form}: {chinese} leaves out {hole}");
        }
        let words = !chinese.is_ascii();
        assert!(words || *form == "@every: {}", "{form}: {chinese} is not Chinese");
    }
}

#[test]
fn a_refusal_is_a_sentence() {
    let error = crate::admin::AdminError::invalid("cron", "field 3 (hour): 25 is not in 0-23");
    assert_eq!(error.chinese(), "cron：第 3 个字段（时）：25 不在 0-23 之内");
    let error = crate::admin::AdminError::not_found("job", "7");
    assert_eq!(error.chinese(), "任务 \"7\" 不存在");
    assert_eq!(chinese("nobody ever says this"), "操作未完成：nobody ever says this");
}
