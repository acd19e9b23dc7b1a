//! The borders between crates and modules, kept by reading the source: who may name what.

use std::path::{Path, PathBuf};

/// A word, and the only places that may contain it.
const OWNERS: [(&str, &[&str]); 7] = [
    ("etcd_client::", &["forest-etcd/src"]),
    ("sqlx::", &["forest-server/src/store", "tests/src"]),
    ("cron::Schedule", &["forest-server/src/schedule/cron.rs"]),
    (
        "tonic::",
        &[
            "forest-etcd/src",
            "forest-server/src/grpc",
            "forest-server/src/node/mod.rs",
            "forest-cli/src",
            "proto",
            "tests/src",
            "tests/suite",
        ],
    ),
    ("clock_gettime", &["forest-etcd/src/clock.rs"]),
    ("/server/conf", &["proto/src/keys.rs", "proto/src/record", "tests"]),
    ("/client/execute", &["proto/src/keys.rs", "proto/src/record", "tests"]),
];

/// What a folder must not mention at all.
const FORBIDDEN: [(&str, &[&str]); 6] = [
    ("forest-server/src/core", &["tokio", "async fn", "sqlx", "tonic", "Store,"]),
    ("forest-server/src/schedule", &["tokio", "async fn", "forest_etcd"]),
    ("forest-client", &["forest_server"]),
    ("forest-server", &["forest_client"]),
    ("forest-cli", &["forest_etcd", "forest_server", "forest_client"]),
    ("proto/src", &["tokio", "async fn", "std::fs", "std::net"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the workspace").to_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a readable folder").flatten() {
        let path = entry.path();
        match path.is_dir() {
            true if path.join("CACHEDIR.TAG").exists()
                || entry.file_name().to_string_lossy().starts_with('.') => {}
            true => sources(&path, found),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
}

/// Every line of code, without comments, as (file, line number, text).
fn lines() -> Vec<(String, usize, String)> {
    let (root, mut files) = (root(), Vec::new());
    sources(&root, &mut files);
    assert!(files.len() > 100, "the sources were not found under {}", root.display());
    let mut lines = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).expect("readable source");
        let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        lines.extend(code.map(|(number, line)| (name.clone(), number + 1, line.to_owned())));
    }
    lines
}

#[test]
fn outside_things_have_one_owner_each() {
    let this = "tests/suite/architecture.rs";
    let trespass = |(file, number, line): &(String, usize, String)| {
        let word = OWNERS.iter().find(|(word, owners)| {
            line.contains(word)
                && file != this
                && !file.contains("/tests/")
                && !owners.iter().any(|owner| file.starts_with(owner))
        })?;
        Some(format!("{file}:{number} names {:?}", word.0))
    };
    let found: Vec<_> = lines().iter().filter_map(trespass).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn dependencies_point_one_way_and_the_core_is_pure() {
    let trespass = |(file, number, line): &(String, usize, String)| {
        let (_, words) = FORBIDDEN.iter().find(|(folder, words)| {
            file.starts_with(&format!("{folder}/"))
                && !file.contains("/tests")
                && words.iter().any(|word| line.contains(word))
        })?;
        let word = words.iter().find(|word| line.contains(**word))?;
        Some(format!("{file}:{number} names {word:?}"))
    };
    let found: Vec<_> = lines().iter().filter_map(trespass).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn no_key_is_written_outside_the_keyspace() {
    // In production code; the tests write keys by hand on purpose, to see what others would see.
    let families = [
        "server/cursor",
        "server/jobgen",
        "server/delay",
        "server/pending",
        "client/snapshot",
        "elect/leader",
    ];
    let found: Vec<_> = lines()
        .into_iter()
        .filter(|(file, _, _)| {
            !file.starts_with("tests/") && !file.contains("/tests") && file != "proto/src/keys.rs"
        })
        .filter(|(_, _, line)| line.contains('"') && families.iter().any(|family| line.contains(family)))
        .map(|(file, number, _)| format!("{file}:{number}"))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}
