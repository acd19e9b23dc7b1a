//! The borders between crates and modules, kept by reading the source: who may name what.

use std::path::{Path, PathBuf};

/// A word, and the only places that may contain it.
const OWNERS: [(&str, &[&str]); 8] = [
    // The embedded one takes the generated protocol code from it.
    ("etcd_client::", &["forest-etcd/src", "embedded-etcd/src"]),
    ("sqlx::", &["forest-server/src/store", "tests/src"]),
    ("cron::Schedule", &["forest-schedule/src/cron.rs"]),
    (
        "tonic::",
        &[
            "forest-etcd/src",
            "embedded-etcd/src",
            "forest-server/src/grpc",
            "forest-server/src/node/mod.rs",
            "forest-server/src/traces.rs",
            "forest-cli/src",
            "proto",
            "simulation/src",
            "tests/src",
            "tests/suite",
        ],
    ),
    (
        "opentelemetry",
        &["forest-server/src/traces.rs", "forest-client/src/span.rs", "tests/src", "tests/suite"],
    ),
    ("clock_gettime", &["forest-etcd/src/clock.rs"]),
    ("/server/conf", &["proto/src/keys.rs", "proto/src/record", "simulation", "tests"]),
    ("/client/execute", &["proto/src/keys.rs", "proto/src/record", "simulation", "tests"]),
];

/// What a folder must not mention at all.
const FORBIDDEN: [(&str, &[&str]); 7] = [
    ("forest-server/src/core", &["tokio", "async fn", "sqlx", "tonic", "Store,"]),
    ("forest-schedule/src", &["tokio", "async fn", "forest_etcd", "forest_server"]),
    ("forest-client", &["forest_server", "embedded_etcd"]),
    ("forest-etcd", &["forest_server", "forest_client", "embedded_etcd"]),
    ("embedded-etcd", &["forest_server", "forest_client"]),
    ("forest-cli", &["forest_etcd", "forest_server", "forest_client"]),
    ("proto/src", &["tokio", "async fn", "std::fs", "std::net"]),
];

/// Crates that the server names in one folder alone: the whole Forest in one process.
const OF_DEV: [&str; 2] = ["forest_client", "embedded_etcd"];
const DEV: &str = "forest-server/src/dev/";

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
fn server_and_client_are_strangers_but_in_the_development_mode() {
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for (file, number, line) in lines() {
        let Some(word) = OF_DEV.iter().find(|word| line.contains(**word)) else { continue };
        match file.starts_with("forest-server/") {
            true if file.starts_with(DEV) => inside.push(*word),
            true => outside.push(format!("{file}:{number} names {word:?}")),
            false => {}
        }
    }
    assert!(outside.is_empty(), "{outside:#?}");
    assert!(OF_DEV.iter().all(|word| inside.contains(word)), "the folder has moved: {inside:?}");

    let manifest = |name: &str| {
        std::fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a readable manifest")
    };
    let names_server = |text: &str| text.lines().any(|line| line.trim_start().starts_with("forest-server"));
    for name in ["forest-client", "embedded-etcd", "forest-etcd", "proto", "forest-cli"] {
        assert!(!names_server(&manifest(name)), "{name} depends on the server");
    }
    assert!(names_server(&manifest("simulation")), "what is looked for in manifests is found");
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
            !["tests/", "simulation/"].iter().any(|of_tests| file.starts_with(of_tests))
                && !file.contains("/tests")
                && file != "proto/src/keys.rs"
        })
        .filter(|(_, _, line)| line.contains('"') && families.iter().any(|family| line.contains(family)))
        .map(|(file, number, _)| format!("{file}:{number}"))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}
