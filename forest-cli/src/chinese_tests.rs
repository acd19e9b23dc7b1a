//! Whether what the sources say to people has its Chinese, and how it looks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::*;
use crate::error::Exit;
use crate::fake::{Fake, cli_around};
use crate::settings::Surroundings;

/// Where nothing is said in the language of who reads it, but help, names of data, or in tests.
const OTHERS: [&str; 9] = [
    "chinese.rs",
    "transcript.rs",
    "commands/etcd.rs",
    "commands/top/draw.rs",
    "args.rs",
    "yaml.rs",
    "main.rs",
    "commands/doctor.rs",
    "commands/job/chain.rs",
];
/// Beginnings of what is only part of a line, or is data.
const PARTS: [&str; 35] = [
    "commands",
    "(",
    " ",
    ",",
    ";",
    ":",
    "{}{}",
    "+{}",
    "#",
    "[",
    "--{}",
    "@every",
    "{} in {}",
    "{} everywhere",
    "{}, ",
    "done; `",
    "refused or",
    "the command line or",
    "there is no such",
    "somebody else",
    "no server could",
    "not logged",
    "Exit codes",
    "not required",
    "none at the moment",
    "UNAVAILABLE",
    "HELD",
    "stored {}",
    "{} is longer",
    "no answer",
    "no connection",
    "{} (does",
    "after the {}",
    "--ca-file and",
    "{}: a job",
];

fn files(at: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(at).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// The text literals of a source before its tests, with holes for what is filled in.
fn texts(source: &str) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let code = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let mut found = BTreeSet::new();
    for line in code {
        for text in line.split('"').skip(1).step_by(2) {
            let mut form = String::new();
            let mut rest = text;
            while let Some((before, after)) = rest.split_once('{') {
                form = form + before + "{}";
                rest = after.split_once('}').map_or("", |(_, rest)| rest);
            }
            found.insert(form + rest);
        }
    }
    found
}

fn is_sentence(text: &str) -> bool {
    let word = |word: &&str| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_lowercase());
    text.split(' ').filter(word).count() >= 2
}

fn is_heading(text: &str) -> bool {
    text.len() > 1 && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b' ')
}

#[test]
fn whatever_is_said_is_said_in_chinese_too() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    files(&root, &mut sources);
    let (mut seen, mut missing) = (0, Vec::new());
    for file in sources {
        let name = file.strip_prefix(&root).expect("below it").to_string_lossy().into_owned();
        let other = name.starts_with("args/") || name.contains("tests") || name.starts_with("fake");
        if other || OTHERS.contains(&name.as_str()) {
            continue;
        }
        for text in texts(&std::fs::read_to_string(&file).expect("text")) {
            let said = is_sentence(&text) || (is_heading(&text) && name.starts_with("commands/"));
            if !said || text.ends_with('\\') || PARTS.iter().any(|part| text.starts_with(part)) {
                continue;
            }
            seen += 1;
            if CATALOGUE.chinese(&text.replace("{}", "x")).is_none() {
                missing.push(format!("{name}: {text}"));
            }
        }
    }
    assert!(missing.is_empty(), "say these in chinese.rs too:\n{}", missing.join("\n"));
    assert!(seen > 120, "only {seen} texts were looked at");
}

#[test]
fn no_pair_is_there_twice_or_leaves_something_out() {
    let mut forms = BTreeSet::new();
    for (form, chinese) in CATALOGUE.pairs() {
        assert!(forms.insert(form), "{form} is there twice");
        for index in 0..form.matches("{}").count() {
            assert!(chinese.contains(&format!("{{{index}}}")), "{form}: {chinese}");
        }
    }
}

#[tokio::test]
async fn lists_records_and_messages_are_in_the_language_asked_for() {
    let fake = Fake::start().await;
    fake.cli(&["group", "add", "trade", "--remark", "交易"]).await;
    let listed = fake.cli(&["group", "list", "--lang", "zh"]).await;
    assert_eq!(listed.stdout.lines().next().unwrap_or_default(), "名称   客户端数  任务数  描述");
    let shown = fake.cli(&["group", "get", "trade", "--lang", "zh"]).await.stdout;
    assert!(shown.contains("名称") && shown.contains("描述") && shown.contains("交易"), "{shown}");
    let none = fake.cli(&["user", "list", "--lang", "zh"]).await;
    assert!(none.stderr.is_empty() || none.stderr == "forest-cli: 没有用户\n", "{}", none.stderr);
    let deleted = fake.cli(&["group", "delete", "trade", "--yes", "--lang", "zh"]).await;
    assert_eq!(deleted.stderr, "forest-cli: 已删除集群 trade\n");
    let missing = fake.cli(&["job", "get", "nobody", "--lang", "zh"]).await;
    assert_eq!(
        (missing.exit, missing.stderr.as_str()),
        (Exit::NotFound, "forest-cli: 没有编号或名称为 \"nobody\" 的任务\n")
    );
    let unasked = fake.cli(&["group", "delete", "trade", "--lang", "zh"]).await;
    assert_eq!(unasked.stderr, "forest-cli: 无人应答时，删除需要 --yes\n");
}

#[tokio::test]
async fn documents_are_the_same_in_both_languages() {
    let fake = Fake::start().await;
    for form in ["json", "yaml", "jsonl", "name"] {
        let line = ["node", "list", "-o", form];
        let english = fake.cli(&line).await.stdout;
        assert_eq!(fake.cli(&[&line[..], &["--lang", "zh"]].concat()).await.stdout, english, "{form}");
    }
}

#[tokio::test]
async fn the_language_is_that_of_the_flag_the_context_or_the_locale() {
    let fake = Fake::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut around = Surroundings {
        config: Some(folder.path().join("contexts.toml")),
        locale: "zh_CN.UTF-8".into(),
        ..Surroundings::default()
    };
    let heading = async |line: &[&str], around: &Surroundings| {
        let shown = cli_around(line, around).await.stdout;
        shown.split_whitespace().next().unwrap_or_default().to_owned()
    };
    let url = fake.url();
    let line = ["node", "list", "--server", &url];
    assert_eq!(heading(&line, &around).await, "节点");
    assert_eq!(heading(&[&line[..], &["--lang", "en"]].concat(), &around).await, "NODE");
    around.locale = "en_US.UTF-8".into();
    assert_eq!(heading(&line, &around).await, "NODE");
    let stored = cli_around(&["context", "set", "here", "--server", &url, "--lang", "zh"], &around).await;
    assert_eq!(stored.stderr, "forest-cli: 已保存上下文 here\n");
    assert_eq!(heading(&["node", "list"], &around).await, "节点");
    assert_eq!(heading(&["node", "list", "--lang", "en"], &around).await, "NODE");
}
