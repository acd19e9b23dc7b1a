//! The metrics, their documentation, and what dashboards and alerts make of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::METRICS;

/// Labels that Prometheus adds by itself, and that of the buckets of histograms.
const OF_PROMETHEUS: [&str; 3] = ["instance", "job", "le"];

fn monitoring(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(monitoring(name)).expect(name)
}

/// The labels that a meaning names: its words in backticks before the colon, but for those in brackets.
fn labels(meaning: &str) -> BTreeSet<&str> {
    let (mut depth, mut labels) = (0_u32, BTreeSet::new());
    let mut words = meaning.split('`');
    while let Some(between) = words.next() {
        for c in between.chars() {
            match c {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                ':' if depth == 0 => return labels,
                _ => {}
            }
        }
        if let Some(word) = words.next().filter(|_| depth == 0) {
            labels.insert(word);
        }
    }
    labels
}

/// The metric of that name, or of which a histogram's series has it.
fn metric(name: &str) -> Option<&'static (&'static str, &'static str)> {
    METRICS.iter().find(|(known, meaning)| {
        let of_histogram = name.strip_prefix(known).filter(|_| meaning.starts_with("histogram"));
        name == *known || of_histogram.is_some_and(|rest| ["_bucket", "_count", "_sum"].contains(&rest))
    })
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Every metric in an expression, with the labels that its selector names.
fn selected(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("forest_") {
        if expression[..at].ends_with(is_word) {
            continue;
        }
        let name: String = expression[at..].chars().take_while(|c| is_word(*c)).collect();
        let selector = expression[at + name.len()..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = selector.map_or("", |(matchers, _)| matchers).split("\",");
        let label = |matcher: &str| matcher.trim().chars().take_while(|c| is_word(*c)).collect::<String>();
        found.push((name, matchers.map(label).filter(|label| !label.is_empty()).collect()));
    }
    found
}

/// The labels by which an expression groups.
fn grouped(expression: &str) -> Vec<String> {
    let lists = expression.split("by (").skip(1).filter_map(|rest| rest.split(')').next());
    lists.flat_map(|list| list.split(',')).map(|label| label.trim().to_owned()).collect()
}

fn check(place: &str, expression: &str) -> usize {
    let selected = selected(expression);
    let mut known: BTreeSet<&str> = OF_PROMETHEUS.into();
    for (name, used) in &selected {
        let (_, meaning) = metric(name).unwrap_or_else(|| panic!("{place}: there is no metric {name}"));
        let own = labels(meaning);
        for label in used {
            let is_known = own.contains(label.as_str()) || OF_PROMETHEUS.contains(&label.as_str());
            assert!(is_known, "{place}: {name} has no label {label}, but {own:?}");
        }
        known.extend(own);
    }
    for label in grouped(expression) {
        assert!(known.contains(label.as_str()), "{place}: nothing has a label {label}: {expression}");
    }
    selected.len()
}

#[test]
fn every_metric_is_in_the_documentation() {
    let text = include_str!("../../../ADMINISTRATION.md");
    for (name, meaning) in METRICS {
        assert!(text.contains(&format!("| `{name}` | {meaning} |")), "| `{name}` | {meaning} |");
    }
    let documented = text.lines().filter(|line| line.starts_with("| `forest_")).count();
    assert_eq!(documented, METRICS.len(), "no metric is documented that is gone");
}

#[test]
fn labels_are_what_a_meaning_names() {
    let of = |meaning| labels(meaning).into_iter().collect::<Vec<_>>();
    assert_eq!(
        of("counter by `face` (`grpc`, `http`), `call` (a form: any) and `status`: answers"),
        ["call", "face", "status"]
    );
    assert!(of("gauge: 1 on `this` node").is_empty());
    assert_eq!(selected("rate(forest_runs{state=\"a,b\", instance=~\"x\"}[5m])")[0].1, ["state", "instance"]);
}

#[test]
fn the_alerts_name_metrics_and_labels_that_exist() {
    let rules = read("forest-alerts.yaml");
    let mut metrics = 0;
    for line in rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")) {
        metrics += check("alert", line);
    }
    assert!(metrics >= rules.matches("alert: ").count(), "each alert is about something");
    // Series of the rules' own tests, too.
    for line in
        read("forest-alerts-test.yaml").lines().filter_map(|line| line.trim().strip_prefix("- series: "))
    {
        assert_eq!(check("test of alerts", line), 1, "{line}");
    }
    let tests = read("forest-alerts-test.yaml");
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("alertname: {name}\n")), "{name} has no test");
    }
}

#[test]
fn the_dashboard_names_metrics_and_labels_that_exist() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("forest-dashboard.json")).expect("JSON");
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().expect("an expression");
            assert!(check(title, expression) > 0, "{title} shows nothing");
            shown.extend(selected(expression).into_iter().filter_map(|(name, _)| Some(metric(&name)?.0)));
        }
    }
    let missing: Vec<_> = METRICS.iter().filter(|(name, _)| !shown.contains(name)).collect();
    assert!(missing.is_empty(), "the dashboard leaves out {missing:?}");
}

/// `make alerts` says that it is missing.
#[test]
fn promtool_takes_the_alerts_where_it_is_installed() {
    for (what, file) in [("check", "forest-alerts.yaml"), ("test", "forest-alerts-test.yaml")] {
        let ran = std::process::Command::new("promtool").args([what, "rules"]).arg(monitoring(file)).output();
        let Ok(ran) = ran else {
            eprintln!("SKIPPED: promtool is not installed");
            return;
        };
        assert!(ran.status.success(), "{file}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}
