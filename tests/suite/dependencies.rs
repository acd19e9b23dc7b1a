//! Jobs that run after others, on a real cluster.

use forest_proto::admin::v1::Job;
use forest_tests::admin::Admin;
use forest_tests::cluster::Cluster;
use forest_tests::wait::eventually;
use serde_json::{Value, json};

use crate::stage::{SOON, Stage};

fn manual() -> Value {
    json!({"cron": "", "trigger": {"kind": "manual"}})
}

fn after(jobs: &[&str], rules: Value) -> Value {
    let mut trigger = json!({"kind": "after", "jobs": jobs});
    if let (Value::Object(trigger), Value::Object(rules)) = (&mut trigger, rules) {
        trigger.extend(rules);
    }
    json!({"cron": "", "trigger": trigger, "overlap": "allow"})
}

/// The ids of the runs of a job, once there are so many.
async fn runs(stage: &Stage, job: &str, count: usize) -> Vec<String> {
    eventually("the runs are in the history", SOON, async || stage.rows(job).await.len() >= count).await;
    stage.rows(job).await.into_iter().map(|row| row.id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_run_after_others_over_any_number_of_leaders() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2)).await else { return };
    let _worker = stage.worker("w", &[]).await;
    let every_second = json!({"cron": "* * * * * *"});
    let (one, two) = (stage.job(every_second.clone()).await, stage.job(every_second).await);
    let both = stage.job(after(&[&one, &two], json!({}))).await;
    let last = stage.job(after(&[&both], json!({"on": "end"}))).await;
    let daily = stage.job(after(&[&one, &two], json!({"need": "any", "within": "day"}))).await;
    runs(&stage, &last, 3).await;
    stage.cluster.kill_leader().await;
    let reached = stage.rows(&last).await.len();
    runs(&stage, &last, reached + 5).await;
    for job in [&one, &two] {
        stage.cluster.admin().disable(job).await.expect("disabled");
    }
    stage.quiet(SOON).await;

    let times = async |job: &str| {
        let rows = stage.rows(job).await;
        let mut times: Vec<_> = rows.into_iter().filter_map(|row| row.scheduled_at).collect();
        times.sort_unstable();
        times
    };
    let (of_both, of_last) = (times(&both).await, times(&last).await);
    assert_eq!(of_both, of_last, "one follows the other");
    assert!(of_both.windows(2).all(|pair| pair[0] < pair[1]), "one run for each time: {of_both:?}");
    let succeeded = async |job: &str| {
        let rows = stage.rows(job).await.into_iter();
        let ok = rows.filter(|row| row.outcome.as_deref() == Some("succeeded"));
        ok.filter_map(|row| row.scheduled_at).collect::<std::collections::BTreeSet<_>>()
    };
    let (one_ok, two_ok) = (succeeded(&one).await, succeeded(&two).await);
    let saved = times_saved(&stage, &both).await;
    let expected: Vec<_> = one_ok.intersection(&two_ok).filter(|at| **at > saved).copied().collect();
    assert_eq!(of_both, expected, "after both had succeeded, and never else");
    assert!((1..=2).contains(&stage.rows(&daily).await.len()), "once a day, and the day may change");

    let run = stage.cluster.admin().get_run(&runs(&stage, &last, 1).await[0]).await.expect("it is there");
    assert_eq!(run.origin, "dependency");
    assert!(run.cause.contains(&both), "{run:?}");
}

/// From when on a job counts.
async fn times_saved(stage: &Stage, job: &str) -> forest_proto::time::Instant {
    let job = stage.cluster.admin().get_job(job).await.expect("it is there");
    let document: Value = serde_json::from_str(&job.document).expect("JSON");
    serde_json::from_value(document["effective_after"].clone()).expect("an instant")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_shown_and_cycles_are_refused_on_whatever_nodes_they_are_made() {
    let Some(stage) = Stage::set(Cluster::builder().nodes(2)).await else { return };
    let first = stage.job(manual()).await;
    let second = stage.job(after(&[&first], json!({}))).await;
    let admins: Vec<Admin> = stage.cluster.nodes().iter().map(|node| node.server.admin()).collect();
    eventually("both nodes know the jobs", SOON, async || {
        admins[0].get_job(&second).await.is_ok() && admins[1].get_job(&second).await.is_ok()
    })
    .await;
    let ids = |links: &[forest_proto::admin::v1::JobLink]| -> Vec<String> {
        links.iter().map(|link| link.id.clone()).collect()
    };
    let shown: Job = admins[1].get_job(&first).await.expect("it is there");
    assert_eq!((ids(&shown.after), ids(&shown.followers)), (vec![], vec![second.clone()]));
    let refused = admins[0].delete_job(&first).await.expect_err("it is followed");
    assert!(refused.to_string().contains(&second), "{refused}");
    let circle = admins[0].edit_job(&first, &after(&[&second], json!({}))).await.expect_err("a circle");
    assert!(circle.to_string().contains("cycle"), "{circle}");

    // Of two saves that would close a circle together at most one is made.
    let (a, b) = (stage.job(manual()).await, stage.job(manual()).await);
    let (mut made, mut refused) = (0, 0);
    for _ in 0..30 {
        let (a_after, b_after) = (after(&[&b], json!({})), after(&[&a], json!({})));
        let both = tokio::join!(admins[0].edit_job(&a, &a_after), admins[1].edit_job(&b, &b_after));
        assert!(both.0.is_err() || both.1.is_err(), "{both:?}");
        made += usize::from(both.0.is_ok()) + usize::from(both.1.is_ok());
        refused += usize::from(both.0.is_err()) + usize::from(both.1.is_err());
        for job in [&a, &b] {
            eventually("it follows nothing again", SOON, async || {
                admins[0].edit_job(job, &manual()).await.is_ok()
            })
            .await;
        }
        let version = async |admin: &Admin, job: &str| admin.get_job(job).await.map(|job| job.revision).ok();
        eventually("both nodes know that", SOON, async || {
            version(&admins[0], &a).await == version(&admins[1], &a).await
                && version(&admins[0], &b).await == version(&admins[1], &b).await
        })
        .await;
    }
    assert!(made > 0 && refused >= 30, "{made} made, {refused} refused");
}
