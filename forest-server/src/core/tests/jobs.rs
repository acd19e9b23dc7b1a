//! The table of jobs: what it holds, in which order, and what it costs.

use forest_proto::SegmentCount;
use forest_proto::record::{Cursor, Job, encode};
use forest_proto::time::Instant;

use super::{DAY, START, id, job};
use crate::core::jobs::Jobs;

const MANY: usize = 200_000;
/// Set where memory is measured.
const ALONE: &str = "FOREST_TEST_ALONE";

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn realistic(n: usize) -> Job {
    // Some hundred different ones, as in a real cluster.
    let cron = format!("0 {} {} * * *", n % 60, n / 7 % 24);
    Job {
        name: format!("settlement of merchant {n}"),
        params: format!(r#"{{"merchant":{n},"currency":"EUR"}}"#),
        remark: "nightly settlement".into(),
        mobile: "13800000000".into(),
        updated_at: Some(Instant::from_ms(START)),
        ..job(&format!("20261121{n:012}"), &cron)
    }
}

#[test]
fn a_job_costs_some_hundred_bytes() {
    if std::env::var_os(ALONE).is_none() {
        // In a process of its own: the other tests need memory too.
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args(["core::tests::jobs::a_job_costs_some_hundred_bytes", "--exact", "--nocapture"]);
        let output = alone.env(ALONE, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().filter(|line| line.contains("bytes")).for_each(|line| println!("{line}"));
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let mut jobs = Jobs::new(SegmentCount::DEFAULT, "UTC".into());
    for segment in SegmentCount::DEFAULT.all() {
        let cursor = Cursor::at(Instant::from_ms(START), "", 1);
        jobs.set_cursor(segment, &cursor, 1);
    }
    let before = resident();
    let mut documents = 0;
    for n in 0..MANY {
        let job = realistic(n);
        let document = encode(&job);
        documents += document.len();
        jobs.put(&job.id, &document, 2, 1).unwrap();
    }
    let bytes = resident().saturating_sub(before) / MANY;
    println!("{bytes} bytes for each job, of which its document has {}", documents / MANY);
    assert_eq!((jobs.len(), jobs.enabled()), (MANY, MANY));
    assert!(bytes < 1_000, "{bytes}: something is kept that should not be");
}

#[test]
fn the_soonest_fires_are_given_across_segments() {
    let mut jobs = Jobs::new(SegmentCount::DEFAULT, "UTC".into());
    for segment in SegmentCount::DEFAULT.all() {
        let cursor = Cursor::at(Instant::from_ms(START), "", 1);
        jobs.set_cursor(segment, &cursor, 1);
    }
    for n in 0..40 {
        let job = job(&format!("job-{n:02}"), &format!("{n} 0 12 * * *"));
        jobs.put(&job.id, &encode(&job), 2, 1).unwrap();
    }
    let names: Vec<_> = jobs.soonest(3).into_iter().map(|(_, id)| id.to_string()).collect();
    assert_eq!(names, ["job-00", "job-01", "job-02"]);
    let mut seen = Vec::new();
    while let Some(page) = Some(jobs.page(seen.last(), 7)).filter(|page| !page.is_empty()) {
        seen.extend(page.into_iter().map(|(id, _)| id.clone()));
    }
    assert_eq!((seen.len(), seen.is_sorted()), (40, true));
}

#[test]
fn groups_are_counted_as_jobs_come_change_and_go() {
    let mut jobs = Jobs::new(SegmentCount::new(1).unwrap(), "UTC".into());
    let (trade, other) = (super::group(), "other".parse().unwrap());
    let count = |jobs: &Jobs| (jobs.of_group(&trade), jobs.of_group(&other));
    for name in ["a", "b"] {
        jobs.put(&id(name), &encode(&job(name, "0 * * * * *")), 1, 1).unwrap();
    }
    assert_eq!(count(&jobs), (2, 0));
    let moved = Job { group: other.clone(), ..job("a", "0 * * * * *") };
    jobs.put(&id("a"), &encode(&moved), 2, 1).unwrap();
    assert_eq!(count(&jobs), (1, 1));
    assert!(!jobs.remove(&id("a"), 2), "written at that revision, not deleted");
    assert!(jobs.remove(&id("a"), 3));
    assert_eq!((count(&jobs), jobs.len()), ((1, 0), 1));
}

#[test]
fn a_job_that_cannot_be_scheduled_is_kept_without_fires() {
    let mut jobs = Jobs::new(SegmentCount::new(1).unwrap(), "UTC".into());
    let cursor = Cursor::at(Instant::from_ms(START + DAY), "", 1);
    jobs.set_cursor(SegmentCount::DEFAULT.all().next().unwrap(), &cursor, 1);
    for (revision, cron) in [(1, "nonsense"), (2, ""), (3, "0 0 0 30 2 *")] {
        let result = jobs.put(&id("a"), &encode(&job("a", cron)), revision, 1);
        assert_eq!(result.is_err(), revision < 3, "{cron}: {result:?}");
        assert_eq!(jobs.get(&id("a")).unwrap().next_ms(), None);
    }
    let known = jobs.get(&id("a")).unwrap();
    assert_eq!((known.next_ms(), known.job().map(|job| job.cron)), (None, Some("0 0 0 30 2 *".into())));
}
