//! From flags and files to the JSON document of a job, or to a patch of one.
//!
//! Field names and units are those of `forest_proto::record::Job`. Whether values make sense is for the
//! server to say.

use forest_proto::record::MAX_PARAMS;
use serde_json::{Map, Value, json};

use super::chain;
use crate::args::{JobFlags, ParamsFlags, TriggerFlags};
use crate::console::Console;
use crate::error::Failure;

/// A document is mostly its parameters; more than this is a mistake.
pub(super) const MAX_DOCUMENT: usize = 1 << 20;

/// What only the server writes. A document that was read with `job get` has them.
pub(super) const SERVERS_OWN: [&str; 5] = ["id", "version", "created_at", "updated_at", "effective_after"];

const ENABLED: u8 = 1;
const DISABLED: u8 = 2;

/// The document of a job to add.
pub(super) fn new_job(flags: JobFlags, console: &mut Console) -> Result<String, Failure> {
    let mut fields = fields(flags, console)?;
    for name in SERVERS_OWN {
        fields.remove(name);
    }
    let has = |name: &str| fields.get(name).is_some_and(|value| *value != json!(""));
    let mut missing: Vec<String> = ["name", "group", "target"]
        .iter()
        .filter(|name| !has(name))
        .map(|name| format!("--{name}"))
        .collect();
    if !has("cron") && !has("trigger") {
        missing.push("--cron, --every, --rate, --delay, --at, --in, --after or --manual".to_owned());
    }
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(Failure::usage(format!("a new job needs {missing} (or a document with -f)")));
    }
    fields.entry("status").or_insert(ENABLED.into());
    Ok(Value::Object(fields).to_string())
}

/// Changed fields, with what the document said about the job they were read from.
#[derive(Debug)]
pub(super) struct Change {
    patch: Map<String, Value>,
    id: Option<Value>,
    version: Option<u64>,
}

/// What flags and file change.
pub(super) fn change(flags: JobFlags, console: &mut Console) -> Result<Change, Failure> {
    let mut patch = fields(flags, console)?;
    let id = patch.get("id").cloned();
    let version = patch.get("version").and_then(Value::as_u64);
    for name in SERVERS_OWN {
        patch.remove(name);
    }
    one_kind_of_delays(&mut patch);
    if patch.is_empty() {
        return Err(Failure::usage("nothing to change: give a flag such as --cron, or a document with -f"));
    }
    Ok(Change { patch, id, version })
}

/// What waits by another rule than before waits by that alone.
fn one_kind_of_delays(patch: &mut Map<String, Value>) {
    for (given, other) in [("retry_backoff", "retry_delays_ms"), ("retry_delays_ms", "retry_backoff")] {
        if patch.get(given).is_some_and(|value| !value.is_null()) && !patch.contains_key(other) {
            patch.insert(other.to_owned(), Value::Null);
        }
    }
}

impl Change {
    /// The patch, and the version that it was made from if known. Refuses the document of another job.
    pub(super) fn for_job(self, id: &str) -> Result<(String, Option<u64>), Failure> {
        match self.id {
            Some(other) if other != id => {
                Err(Failure::usage(format!("the document is that of job {other}, not of {id}")))
            }
            _ => Ok((Value::Object(self.patch).to_string(), self.version)),
        }
    }
}

/// A list of names. The empty text stands for none.
fn names(names: Vec<String>) -> Value {
    names.into_iter().filter(|name| !name.is_empty()).collect()
}

/// The parameters that flags or a file give, if any.
pub(in crate::commands) fn params(
    flags: ParamsFlags,
    console: &mut Console,
) -> Result<Option<String>, Failure> {
    match flags.params_file {
        Some(path) => console.read_text(&path, MAX_PARAMS).map(Some),
        None => Ok(flags.params),
    }
}

fn fields(flags: JobFlags, console: &mut Console) -> Result<Map<String, Value>, Failure> {
    if flags.file.as_deref() == Some("-") && flags.params.params_file.as_deref() == Some("-") {
        return Err(Failure::usage("only one of --file and --params-file can be read from stdin"));
    }
    let mut fields = match &flags.file {
        Some(path) => object(path, console)?,
        None => Map::new(),
    };
    let trigger = chain::trigger(&flags).or_else(|| trigger(&flags.trigger));
    let cron = flags.cron.or(flags.every.map(|every| format!("@every {every}")));
    // What fires it by another way than before fires it by that way alone.
    let cron = if trigger.is_some() { Some(String::new()) } else { cron };
    let given = [
        ("trigger", trigger),
        ("starts_at", flags.starts_at.map(Value::from)),
        ("ends_at", flags.ends_at.map(Value::from)),
        ("jitter_ms", flags.jitter.map(Value::from)),
        ("queue_limit", flags.queue_limit.map(Value::from)),
        ("routing", flags.routing.map(Value::from)),
        ("shard_params", flags.shard_params.map(|params| json!(params))),
        ("labels", labels(flags.labels)),
        ("priority", flags.priority.map(Value::from)),
        ("max_in_flight", flags.max_in_flight.map(Value::from)),
        ("timeout_ms", flags.run_timeout.map(Value::from)),
        ("misfire_cap", flags.misfire_cap.map(Value::from)),
        ("retry_if", flags.retry_if.map(Value::from)),
        ("name", flags.name.map(Value::from)),
        ("group", flags.group.map(Value::from)),
        ("target", flags.target.map(Value::from)),
        ("cron", cron.map(Value::from)),
        ("time_zone", flags.time_zone.map(Value::from)),
        ("dst_gap", flags.dst_gap.map(Value::from)),
        ("dst_fold", flags.dst_fold.map(Value::from)),
        ("calendars", flags.calendars.map(names)),
        ("params", params(flags.params, console)?.map(Value::from)),
        ("overlap", flags.overlap.map(Value::from)),
        ("misfire", flags.misfire.map(Value::from)),
        ("misfire_threshold_ms", flags.misfire_threshold.map(Value::from)),
        ("max_attempts", flags.max_attempts.map(Value::from)),
        ("retry_delays_ms", flags.retry_delays.map(Value::from)),
        ("retry_backoff", flags.retry_backoff.and_then(|backoff| serde_json::to_value(backoff).ok())),
        ("on_lost", flags.on_lost.map(Value::from)),
        ("start_deadline_ms", flags.start_deadline.map(Value::from)),
        ("status", flags.disabled.then_some(DISABLED.into())),
        ("remark", flags.remark.map(Value::from)),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    }
    Ok(fields)
}

fn trigger(flags: &TriggerFlags) -> Option<Value> {
    let every = |kind: &str, every_ms: u64| json!({"kind": kind, "every_ms": every_ms});
    match flags {
        TriggerFlags { rate: Some(ms), .. } => Some(every("fixed_rate", *ms)),
        TriggerFlags { delay: Some(ms), .. } => Some(every("fixed_delay", *ms)),
        TriggerFlags { at: Some(at), .. } => Some(json!({"kind": "once", "at": at})),
        TriggerFlags { after: Some(ms), .. } => Some(json!({"kind": "once", "in_ms": ms})),
        TriggerFlags { manual: true, .. } => Some(json!({"kind": "manual"})),
        _ => None,
    }
}

/// `None`: not given. One that is empty stands for none.
fn labels(given: Vec<(String, String)>) -> Option<Value> {
    let labels = |given: Vec<(String, String)>| {
        given.into_iter().filter(|(key, _)| !key.is_empty()).map(|(k, v)| (k, Value::from(v))).collect()
    };
    (!given.is_empty()).then(|| Value::Object(labels(given)))
}

fn object(path: &str, console: &mut Console) -> Result<Map<String, Value>, Failure> {
    let text = console.read_text(path, MAX_DOCUMENT)?;
    let parsed = serde_json::from_str::<Map<String, Value>>(&text);
    parsed.map_err(|error| Failure::usage(format!("{path:?} is not a JSON object: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    fn console(stdin: &'static str) -> Console {
        Console::for_test(stdin)
    }

    fn flags() -> JobFlags {
        let text = |text: &str| Some(text.to_owned());
        JobFlags { name: text("bill"), group: text("trade"), target: text("bill"), ..JobFlags::default() }
    }

    fn from_stdin() -> JobFlags {
        JobFlags { file: Some("-".to_owned()), ..JobFlags::default() }
    }

    fn json(text: Result<String, Failure>) -> Value {
        serde_json::from_str(&text.expect("accepted")).expect("JSON")
    }

    #[test]
    fn parameters_of_shards_are_read_once() {
        let document = |text: &str| {
            let shard_params = Some(text.parse().expect("reads"));
            json(new_job(JobFlags { shard_params, cron: Some("@daily".into()), ..flags() }, &mut console("")))
        };
        assert_eq!(
            document("0=Beijing,1=Shanghai")["shard_params"],
            json!({"0": "Beijing", "1": "Shanghai"})
        );
        assert_eq!(document("")["shard_params"], json!({}));
    }

    #[test]
    fn every_trigger_has_its_flag() {
        let of = |trigger: TriggerFlags| {
            let document = json(new_job(JobFlags { trigger, ..flags() }, &mut console("")));
            assert_eq!(document["cron"], "");
            document["trigger"].clone()
        };
        let none = TriggerFlags::default;
        let rate = of(TriggerFlags { rate: Some(5_000), ..none() });
        assert_eq!(rate, json!({"kind": "fixed_rate", "every_ms": 5_000}));
        let delay = of(TriggerFlags { delay: Some(5_000), ..none() });
        assert_eq!(delay, json!({"kind": "fixed_delay", "every_ms": 5_000}));
        let at = of(TriggerFlags { at: Some("2027-10-01T00:00:00.000Z".into()), ..none() });
        assert_eq!(at, json!({"kind": "once", "at": "2027-10-01T00:00:00.000Z"}));
        assert_eq!(
            of(TriggerFlags { after: Some(90_000), ..none() }),
            json!({"kind": "once", "in_ms": 90_000})
        );
        assert_eq!(of(TriggerFlags { manual: true, ..none() }), json!({"kind": "manual"}));
        let follows = vec!["7".to_owned(), "8".to_owned()];
        assert_eq!(
            of(TriggerFlags { follows: follows.clone(), ..none() }),
            json!({"kind": "after", "jobs": ["7", "8"]})
        );
        let text = |text: &str| Some(text.to_owned());
        let mut all = JobFlags { trigger: TriggerFlags { follows, ..none() }, ..flags() };
        (all.chain.after_on, all.chain.after_need) = (text("end"), text("any"));
        all.chain.after_within = text("day");
        let document = json(new_job(all, &mut console("")));
        let expected =
            json!({"kind": "after", "jobs": ["7", "8"], "on": "end", "need": "any", "within": "day"});
        assert_eq!(document["trigger"], expected);
        assert!(serde_json::from_value::<forest_proto::record::Trigger>(expected).is_ok());
    }

    #[test]
    fn flags_become_the_fields_of_the_record() {
        let all = JobFlags {
            every: Some("90s".to_owned()),
            params: ParamsFlags { params: Some(String::new()), params_file: None },
            misfire_threshold: Some(5_000),
            max_attempts: Some(3),
            retry_delays: Some(vec![60_000, 300_000]),
            start_deadline: Some(1_000),
            overlap: Some("allow".to_owned()),
            on_lost: Some("retry".to_owned()),
            disabled: true,
            ..flags()
        };
        let document = json(new_job(all, &mut console("")));
        let expected = json!({
            "name": "bill", "group": "trade", "target": "bill", "cron": "@every 90s", "params": "",
            "misfire_threshold_ms": 5000, "max_attempts": 3, "retry_delays_ms": [60000, 300000],
            "start_deadline_ms": 1000, "overlap": "allow", "on_lost": "retry", "status": 2,
        });
        assert_eq!(document, expected);
    }

    #[test]
    fn what_is_sent_reads_as_the_record() {
        let flags = JobFlags {
            cron: Some("0 0 2 * * ?".to_owned()),
            dst_fold: Some("both".to_owned()),
            misfire: Some("fire_once".to_owned()),
            ..flags()
        };
        let mut document = json(new_job(flags, &mut console("")));
        document["id"] = "1".into();
        let job: forest_proto::record::Job = serde_json::from_value(document).expect("a job");
        assert!(job.is_enabled());
        assert_eq!(job.dst_fold, forest_proto::record::DstFold::Both);
        assert_eq!(job.misfire, forest_proto::record::Misfire::FireOnce);
    }

    #[test]
    fn a_new_job_must_say_what_it_is() {
        let failure = new_job(JobFlags::default(), &mut console("")).expect_err("says nothing");
        let expected = "a new job needs --name, --group, --target, --cron, --every, --rate, --delay, --at, --in, --after or --manual (or a document with -f)";
        assert_eq!((failure.exit, failure.to_string().as_str()), (Exit::Usage, expected));
        let failure = new_job(flags(), &mut console("")).expect_err("has no schedule");
        assert!(failure.to_string().starts_with(
            "a new job needs --cron, --every, --rate, --delay, --at, --in, --after or --manual"
        ));
    }

    #[test]
    fn a_document_that_was_read_can_be_added_again() {
        let read = r#"{"id":"7","version":3,"created_at":"2026-11-18T11:06:40Z","name":"a","group":"g",
            "target":"t","cron":"@daily","status":2,"labels":{"zone":"a"}}"#;
        let flags = JobFlags { name: Some("b".to_owned()), ..from_stdin() };
        let expected = json!({
            "name": "b", "group": "g", "target": "t", "cron": "@daily", "status": 2, "labels": { "zone": "a" },
        });
        assert_eq!(json(new_job(flags, &mut console(read))), expected);
    }

    #[test]
    fn a_patch_has_only_what_was_given() {
        let flags = JobFlags { remark: Some("x".to_owned()), ..from_stdin() };
        let change = change(flags, &mut console(r#"{"start_deadline_ms":null}"#)).expect("changes");
        let (patch, version) = change.for_job("7").expect("accepted");
        assert_eq!((patch.as_str(), version), (r#"{"remark":"x","start_deadline_ms":null}"#, None));
    }

    #[test]
    fn delays_of_one_kind_take_the_place_of_the_other() {
        let patch = |flags: JobFlags| {
            let (patch, _) =
                change(flags, &mut console("")).expect("changes").for_job("7").expect("accepted");
            serde_json::from_str::<Value>(&patch).expect("JSON")
        };
        let backoff = forest_proto::record::RetryBackoff {
            first_ms: 1_000,
            max_ms: 60_000,
            factor_percent: 150,
            jitter_percent: 20,
        };
        let grows = json!({ "first_ms": 1000, "max_ms": 60000, "factor_percent": 150, "jitter_percent": 20 });
        let growing = JobFlags { retry_backoff: Some(backoff.clone()), ..JobFlags::default() };
        assert_eq!(patch(growing), json!({ "retry_backoff": grows, "retry_delays_ms": null }));
        let listed = JobFlags { retry_delays: Some(vec![5]), ..JobFlags::default() };
        assert_eq!(patch(listed), json!({ "retry_backoff": null, "retry_delays_ms": [5] }));

        let new = JobFlags { retry_backoff: Some(backoff), every: Some("90s".to_owned()), ..flags() };
        let document = json(new_job(new, &mut console("")));
        assert_eq!((&document["retry_backoff"], document.get("retry_delays_ms")), (&grows, None));
    }

    #[test]
    fn a_document_that_was_read_guards_its_own_edit() {
        let change = || {
            let read = r#"{"id":"7","version":3,"cron":"@daily"}"#;
            change(from_stdin(), &mut console(read)).expect("changes")
        };
        assert_eq!(change().for_job("7").expect("its own"), (r#"{"cron":"@daily"}"#.to_owned(), Some(3)));
        let failure = change().for_job("8").expect_err("another job's");
        assert_eq!(failure.to_string(), "the document is that of job \"7\", not of 8");
    }

    #[test]
    fn wrong_files_are_usage_errors() {
        let check = |stdin, part: &str| {
            let failure = change(from_stdin(), &mut console(stdin)).expect_err(stdin);
            assert_eq!(failure.exit, Exit::Usage);
            assert!(failure.to_string().contains(part), "{failure}");
        };
        check("{", "\"-\" is not a JSON object: EOF while parsing");
        check("[]", "is not a JSON object");
        check("{}", "nothing to change");
        check(r#"{"version":3}"#, "nothing to change");
        let params = ParamsFlags { params: None, params_file: Some("-".to_owned()) };
        let both = change(JobFlags { params, ..from_stdin() }, &mut console("{}")).expect_err("both");
        assert!(both.to_string().contains("only one of"));
    }
}
