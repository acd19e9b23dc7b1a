//! What is wrong, and what each face has to say about it.

use serde_json::{Value, json};

use super::World;
use super::ask::Ask;

/// Something that must be refused.
pub(super) struct Row {
    pub(super) ask: Ask,
    /// The stable word.
    pub(super) code: &'static str,
    /// The field to blame; empty where it is about none.
    pub(super) field: &'static str,
}

const INVALID: &str = "INVALID_FIELD";
const MISSING: &str = "NOT_FOUND";

fn row(verb: &'static str, on: &str, with: Value, code: &'static str, field: &'static str) -> Row {
    let Value::Object(with) = with else { panic!("{with} is no object") };
    Row { ask: Ask { verb, on: on.to_owned(), with }, code, field }
}

fn viewer() -> Value {
    json!({"everywhere": "viewer"})
}

/// The whole table, about these things.
pub(super) fn rows(world: &World) -> Vec<Row> {
    let mut rows = jobs(world);
    rows.extend(names(world));
    rows.extend(documents(world));
    rows.extend(ids());
    rows.extend(things(world));
    rows.extend(pages());
    rows.extend(people());
    rows
}

/// Names that are none, for everything that has a name.
fn names(world: &World) -> Vec<Row> {
    let long = "n".repeat(64);
    let wrong = [
        "",
        " ",
        "a/b",
        "../x",
        "a b",
        "-a",
        ".a",
        "a\u{0}b",
        "a\u{7}b",
        "a\nb",
        "ａ",
        "b\u{202e}a",
        "e\u{301}",
        "a\u{200b}",
        "组",
        "a%2fb",
        "a?b=c",
        "snapshot",
        &long,
    ];
    let mut rows = Vec::new();
    for name in wrong {
        rows.push(row("group add", name, json!({}), INVALID, "name"));
        if name != "snapshot" {
            rows.push(row("calendar set", name, json!({"days": "2027-01-01"}), INVALID, "name"));
            rows.push(row(
                "user add",
                name,
                json!({"password": "twelve letters", "grants": viewer()}),
                INVALID,
                "name",
            ));
            rows.push(job(world, "target", json!(name), "target"));
        }
        rows.push(job(world, "group", json!(name), "group"));
        rows.push(row("job edit", &world.job, json!({"group": name}), INVALID, "group"));
    }
    for name in ["", " ", "\u{3000}", "a\u{0}b", "a\nb", "a\u{1b}[31m", "a\u{7f}"] {
        rows.push(job(world, "name", json!(name), "name"));
        rows.push(row("job edit", &world.job, json!({"name": name}), INVALID, "name"));
    }
    rows.push(job(world, "name", json!("名".repeat(129)), "name"));
    rows
}

/// An ordinary job with one field that is wrong.
fn job(world: &World, field: &str, value: Value, blamed: &'static str) -> Row {
    let mut job = json!({"name": "n", "group": world.group, "target": "t", "cron": "0 0 0 1 1 ?"});
    if field == "trigger" {
        job.as_object_mut().expect("an object").remove("cron");
    }
    job[field] = value;
    row("job add", "", job, INVALID, blamed)
}

/// Schedules, zones, windows.
fn jobs(world: &World) -> Vec<Row> {
    let mut rows = Vec::new();
    let crons = [
        "",
        "nonsense",
        "* * *",
        "0 0 0 30 2 *",
        "0 0 0 30 2 ?",
        "61 * * * * *",
        "0 0 25 * * *",
        "0 0 0 32 * *",
        "0 0 0 * 13 *",
        "*/0 * * * * *",
        "5-1 * * * * *",
        "@every",
        "@every 0s",
        "@every -5s",
        "@every 1ms",
        "@every 99999999999999h",
        "@never",
        "0 0 0 1 1 * 1999",
        "0 0 0 1 1 * 2999",
        "0\u{0}0 0 1 1 *",
        "零 0 0 1 1 *",
        "0 0 0 L-40 * *",
    ];
    for cron in crons {
        rows.push(job(world, "cron", json!(cron), "cron"));
        rows.push(row("cron next", cron, json!({}), INVALID, "cron"));
        // No cron at all is a job without one, which the contract leaves as it is.
        if !cron.is_empty() {
            rows.push(row("job edit", &world.job, json!({"cron": cron}), INVALID, "cron"));
        }
    }
    rows.push(job(world, "cron", json!("0 ".repeat(5000)), "cron"));
    for zone in ["Mars/Olympus", "utc+8", "../etc/passwd", "Europe/Paris\u{0}", "+08:00", " UTC"] {
        rows.push(job(world, "time_zone", json!(zone), "time_zone"));
        rows.push(row("cron next", "@daily", json!({"time_zone": zone}), INVALID, "time_zone"));
        rows.push(row("job edit", &world.job, json!({"time_zone": zone}), INVALID, "time_zone"));
    }
    let unknown_group = job(world, "group", json!("nowhere"), "group");
    rows.push(unknown_group);
    rows.push(row("job edit", &world.job, json!({"group": "nowhere"}), INVALID, "group"));
    for word in ["dst_gap", "dst_fold"] {
        rows.push(row("cron next", "@daily", json!({word: "maybe"}), INVALID, word));
    }
    rows.push(row("cron next", "@daily", json!({"calendars": "nowhere"}), INVALID, "calendars[0]"));
    rows.push(row("cron next", "@daily", json!({"count": 101}), INVALID, "count"));
    rows.push(row("job next", &world.job, json!({"count": 4_000_000_000_u32}), INVALID, "count"));
    let nine: Vec<_> = (0..9).map(|n| format!("c{n}")).collect();
    rows.push(job(world, "calendars", json!(nine), "calendars"));
    rows.push(job(world, "calendars", json!(["nowhere"]), "calendars[0]"));
    rows.push(job(world, "calendars", json!([world.calendar, world.calendar]), "calendars[1]"));
    let window = |from: &str, to: &str| {
        let mut row = job(world, "starts_at", json!(from), "ends_at");
        row.ask.with.insert("ends_at".into(), json!(to));
        row
    };
    rows.push(window("2031-01-02T00:00:00Z", "2031-01-01T00:00:00Z"));
    rows.push(window("2001-01-02T00:00:00Z", "2001-01-03T00:00:00Z"));
    rows.push(job(world, "starts_at", json!("9999-12-31T23:59:59Z"), "starts_at"));
    rows.push(job(world, "starts_at", json!("0001-01-01T00:00:00Z"), "starts_at"));
    rows.push(job(world, "starts_at", json!("1969-12-31T23:59:59Z"), "starts_at"));
    rows.push(job(world, "starts_at", json!("tomorrow"), "starts_at"));
    rows.push(job(world, "ends_at", json!("2031-02-30T00:00:00Z"), "ends_at"));
    for at in ["2001-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "1900-01-01T00:00:00Z", "soon"] {
        rows.push(job(world, "trigger", json!({"kind": "once", "at": at}), "trigger.at"));
    }
    rows
}

/// Fields of a job that are wrong by themselves, or beside each other.
fn documents(world: &World) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut wrong = |field: &str, value: Value, blamed: &'static str| {
        rows.push(job(world, field, value.clone(), blamed));
        rows.push(row("job edit", &world.plain, json!({field: value}), INVALID, blamed));
    };
    wrong("params", json!("p".repeat(64 * 1024 + 1)), "params");
    wrong("remark", json!("r".repeat(256)), "remark");
    wrong("remark", json!("a\u{0}b"), "remark");
    wrong("mobile", json!("1".repeat(256)), "mobile");
    wrong("overlap", json!("maybe"), "overlap");
    wrong("routing", json!("nearest"), "routing");
    wrong("misfire", json!("cry"), "misfire");
    wrong("on_lost", json!("weep"), "on_lost");
    wrong("dst_gap", json!("jump"), "dst_gap");
    wrong("dst_fold", json!("thrice"), "dst_fold");
    wrong("retry_if", json!(["bored"]), "retry_if[0]");
    wrong("retry_if", json!(["succeeded"]), "retry_if");
    wrong("retry_if", json!(["lost"]), "retry_if");
    wrong("trigger", json!({"kind": "whim"}), "trigger.kind");
    wrong("trigger", json!({"kind": "fixed_rate", "every_ms": 0}), "trigger.every_ms");
    wrong("trigger", json!({"kind": "fixed_rate", "every_ms": u64::MAX}), "trigger.every_ms");
    wrong("trigger", json!({"kind": "fixed_delay", "every_ms": 1}), "trigger.every_ms");
    wrong("trigger", json!({"kind": "after", "jobs": []}), "trigger.jobs");
    wrong("trigger", json!({"kind": "after", "jobs": ["nobody"]}), "trigger.jobs[0]");
    wrong("nonsense", json!(1), "nonsense");
    wrong("Cron", json!("@daily"), "Cron");
    for version in [json!(1), json!("x"), json!(-1)] {
        rows.push(row(
            "job edit",
            &world.job,
            json!({"effective_after": version}),
            INVALID,
            "effective_after",
        ));
    }
    let numbers: [(&str, &'static str, &[Value]); 9] = [
        (
            "max_attempts",
            "max_attempts",
            &[json!(0), json!(-1), json!(101), json!(1.5), json!(1e300), json!("3"), json!(u64::MAX)],
        ),
        ("timeout_ms", "timeout_ms", &[json!(0), json!(-1), json!(99), json!(u64::MAX), json!([])]),
        ("misfire_threshold_ms", "misfire_threshold_ms", &[json!(0), json!(999), json!(-5)]),
        ("start_deadline_ms", "start_deadline_ms", &[json!(0), json!(u64::MAX)]),
        ("jitter_ms", "jitter_ms", &[json!(-1), json!(3_600_001)]),
        ("max_in_flight", "max_in_flight", &[json!(0), json!(-1), json!(1_000_001), json!({})]),
        ("queue_limit", "queue_limit", &[json!(5), json!(-5)]),
        ("misfire_cap", "misfire_cap", &[json!(5), json!(true)]),
        ("priority", "priority", &[json!(1_i64 << 40), json!("high")]),
    ];
    for (field, blamed, values) in numbers {
        for value in values {
            rows.push(job(world, field, value.clone(), blamed));
            rows.push(row("job edit", &world.job, json!({field: value}), INVALID, blamed));
        }
    }
    let types: [(&str, &'static str, Value); 14] = [
        ("name", "name", json!(5)),
        ("name", "name", json!(["n"])),
        ("group", "group", json!({})),
        ("target", "target", json!(false)),
        ("cron", "cron", json!(5)),
        ("params", "params", json!({"a": 1})),
        ("remark", "remark", json!(1.5)),
        ("status", "status", json!("on")),
        ("status", "status", json!([])),
        ("labels", "labels", json!("zone=a")),
        ("labels", "labels.zone", json!({"zone": 5})),
        ("retry_delays_ms", "retry_delays_ms[0]", json!(["1m"])),
        ("retry_delays_ms", "retry_delays_ms", json!([u64::MAX])),
        ("calendars", "calendars", json!("holidays")),
    ];
    for (field, blamed, value) in types {
        rows.push(job(world, field, value.clone(), blamed));
        rows.push(row("job edit", &world.job, json!({field: value}), INVALID, blamed));
    }
    for status in [0, 3, 77, -1] {
        rows.push(job(world, "status", json!(status), "status"));
        rows.push(row("job edit", &world.job, json!({"status": status}), INVALID, "status"));
    }
    for field in ["name", "group", "target"] {
        let mut row = job(world, "remark", json!("r"), field);
        row.ask.with.remove(field);
        rows.push(row);
    }
    let mut neither = job(world, "remark", json!("r"), "cron");
    neither.ask.with.remove("cron");
    rows.push(neither);
    rows.push(row("job edit", &world.job, json!({"remark": "r", "VERSION": 7}), "VERSION_CONFLICT", ""));
    rows.push(row("job delete", &world.job, json!({"VERSION": 7}), "VERSION_CONFLICT", ""));
    rows.push(row("job disable", &world.job, json!({"reason": "r".repeat(256)}), INVALID, "reason"));
    rows.push(row("job disable", &world.job, json!({"reason": "a\u{7}"}), INVALID, "reason"));
    rows.push(row("job run", &world.job, json!({"params": "p".repeat(64 * 1024 + 1)}), INVALID, "params"));
    for key in ["a/b", "a b", &"k".repeat(64), ".", "é"] {
        rows.push(row("job run", &world.job, json!({"KEY": key}), INVALID, "idempotency_key"));
    }
    rows.push(row("job run", &world.job, json!({"client": "nobody"}), INVALID, "client"));
    rows.push(row("job run", &world.job, json!({"client": "a/b"}), INVALID, "client"));
    rows
}

/// Ids of nothing, for every verb.
fn ids() -> Vec<Row> {
    let mut rows = Vec::new();
    for id in ["12345678901234567890", "nobody", "a/b", "a\u{0}b", "组", &"9".repeat(300)] {
        for verb in [
            "group get",
            "group delete",
            "group edit",
            "job get",
            "job delete",
            "job enable",
            "job disable",
            "job run",
            "job next",
            "backfill cancel",
            "calendar get",
            "calendar delete",
            "run get",
            "run cancel",
            "user delete",
            "token revoke",
        ] {
            rows.push(row(verb, id, json!({}), MISSING, ""));
        }
        rows.push(row("job edit", id, json!({"remark": "r"}), MISSING, ""));
        rows.push(row("job explain", id, json!({"at": "2026-01-01T00:00:00Z"}), MISSING, ""));
        let range = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"});
        rows.push(row("backfill start", id, range, MISSING, ""));
        rows.push(row("user edit", id, json!({"password": "twelve letters"}), MISSING, ""));
    }
    for run in ["20270101000000000-nobody-1", "20270101000000000-1-99", "gibberish", "20270101000000000--1"] {
        rows.push(row("run get", run, json!({}), MISSING, ""));
        rows.push(row("run cancel", run, json!({}), MISSING, ""));
    }
    rows
}

/// What is wrong about groups, calendars, backfills and runs that there are.
fn things(world: &World) -> Vec<Row> {
    let mut rows = vec![
        row("group add", &world.group, json!({}), "GROUP_EXISTS", ""),
        row("group delete", &world.group, json!({}), "GROUP_IN_USE", ""),
        row("run cancel", &world.ended, json!({}), MISSING, ""),
        row("backfill cancel", &world.job, json!({}), MISSING, ""),
        row("calendar delete", &world.calendar, json!({}), "CALENDAR_IN_USE", ""),
        row(
            "calendar set",
            &world.calendar,
            json!({"days": "2027-01-01", "version": 7}),
            "VERSION_CONFLICT",
            "",
        ),
        row("job delete", &world.followed, json!({}), "JOB_IN_USE", ""),
    ];
    for limit in ["max_in_flight", "dispatches_per_second"] {
        for value in [json!(0), json!(1_000_001), json!(-1), json!(1_i64 << 40), json!("many"), json!(1.5)] {
            rows.push(row("group add", "fresh", json!({limit: value}), INVALID, limit));
            // For a change 0 is any number.
            if value != json!(0) {
                rows.push(row("group edit", &world.group, json!({limit: value}), INVALID, limit));
            }
        }
    }
    for remark in [json!("r".repeat(256)), json!("a\u{0}"), json!(5)] {
        rows.push(row("group add", "fresh", json!({"remark": remark}), INVALID, "remark"));
        rows.push(row("group edit", &world.group, json!({"remark": remark}), INVALID, "remark"));
        let calendar = json!({"days": "2027-01-01", "remark": remark});
        rows.push(row("calendar set", &world.calendar, calendar, INVALID, "remark"));
    }
    rows.push(row("group add", "fresh", json!({"colour": "red"}), INVALID, "colour"));
    rows.push(row("calendar set", "fresh", json!({"days": "", "colour": "red"}), INVALID, "colour"));
    for days in [
        "2027-10-32",
        "holidays",
        "2027-10-07..2027-10-01",
        "1969-01-01",
        "2101-01-01",
        "2027-10-01\u{0}",
        "2000-01-01..2020-01-01",
        "++2027-10-01",
        "BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:nonsense\nEND:VEVENT",
    ] {
        rows.push(row("calendar set", "fresh", json!({"days": days}), INVALID, "days"));
    }
    let range = |from: &str, to: &str| json!({"from": from, "to": to});
    let backfill =
        |with: Value, field: &'static str| row("backfill start", &world.frequent, with, INVALID, field);
    rows.push(backfill(range("2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z"), "to"));
    rows.push(backfill(range("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), "to"));
    rows.push(backfill(range("2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z"), "to"));
    rows.push(backfill(range("1969-01-01T00:00:00Z", "2026-01-01T00:00:00Z"), "from"));
    rows.push(backfill(range("0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z"), "from"));
    rows.push(backfill(range("2026-01-01T00:00:00Z", "2026-01-01T10:00:00Z"), "max_fires"));
    let mut many = range("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    many["max_fires"] = json!(10_001);
    rows.push(backfill(many.clone(), "max_fires"));
    many["max_fires"] = json!(-1);
    rows.push(backfill(many, "max_fires"));
    let mut large = range("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z");
    large["params"] = json!("p".repeat(64 * 1024 + 1));
    rows.push(backfill(large, "params"));
    let manual = range("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    rows.push(row("backfill start", &world.manual, manual, INVALID, "job_id"));
    rows
}

/// Pages that cannot be.
fn pages() -> Vec<Row> {
    let mut rows = Vec::new();
    for verb in [
        "group list",
        "job list",
        "calendar list",
        "backfill list",
        "client list",
        "pending list",
        "run list",
        "user list",
        "token list",
    ] {
        rows.push(row(verb, "", json!({"page_token": "a/b c"}), INVALID, "page_token"));
        for size in
            [json!(201), json!(4_294_967_295_u32), json!(-1), json!(1_i64 << 40), json!("x"), json!(1.5)]
        {
            rows.push(row(verb, "", json!({"page_size": size}), INVALID, "page_size"));
        }
    }
    rows.push(row("plan", "", json!({"page_size": 201}), INVALID, "page_size"));
    rows.push(row("audit list", "", json!({"page_size": 201}), INVALID, "page_size"));
    rows.push(row("audit list", "", json!({"group": "a/b"}), INVALID, "group"));
    rows.push(row("run list", "", json!({"outcome": "happy"}), INVALID, "outcome"));
    rows
}

/// Users and tokens.
fn people() -> Vec<Row> {
    let mut rows = Vec::new();
    for password in [json!(""), json!("short"), json!("p".repeat(257)), json!(12)] {
        rows.push(row(
            "user add",
            "fresh",
            json!({"password": password, "grants": viewer()}),
            INVALID,
            "password",
        ));
    }
    let letters = "twelve letters";
    for (grants, field) in [
        (json!({"everywhere": "king"}), "grants.everywhere"),
        (json!({"groups": {"a/b": "viewer"}}), "grants.groups.a/b"),
        (json!({"groups": {"trade": "king"}}), "grants.groups.trade"),
        (json!({"everywhere": 5}), "grants.everywhere"),
    ] {
        rows.push(row("user add", "fresh", json!({"password": letters, "grants": grants}), INVALID, field));
        rows.push(row("token add", "fresh", json!({"grants": grants}), INVALID, field));
    }
    for lives in [json!(-1), json!(1), json!(59_999), json!(i64::MAX), json!("1d")] {
        rows.push(row(
            "token add",
            "fresh",
            json!({"lives_ms": lives, "grants": viewer()}),
            INVALID,
            "lives_ms",
        ));
    }
    for name in ["", " ", "a\u{0}b", &"t".repeat(129)] {
        rows.push(row("token add", name, json!({"grants": viewer()}), INVALID, "name"));
    }
    rows
}
