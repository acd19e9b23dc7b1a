//! Much at once: ten thousand jobs.

use std::collections::BTreeSet;
use std::time::Duration;

use forest_proto::admin::v1::ListJobsRequest;
use forest_proto::admin::v1::admin_client::AdminClient;
use forest_tests::cluster::Cluster;
use forest_tests::wait::eventually;
use serde_json::{Value, json};

use crate::stage::{SOON, Stage};

const JOBS: usize = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_jobs_of_one_second_run_once_each() {
    let Some(stage) =
        Stage::set(Cluster::builder().configure(|options| options.log_level = "info".into())).await
    else {
        return;
    };
    let mut workers = Vec::new();
    for name in ["one", "two", "three", "four"] {
        // Together they take fewer than there are: the rest waits for a free place.
        workers.push(stage.worker(name, &["--capacity", "500"]).await);
    }
    // However long the dispatch takes on this machine, nothing counts as missed.
    let fields = json!({"misfire_threshold_ms": 600_000});
    let jobs = stage.jobs_due_together(JOBS, Duration::from_secs(8), fields).await;
    let history = stage.cluster.history();
    eventually("every run is in the history", Duration::from_secs(120), async || {
        let count = history.count().await.map_err(|e| e.to_string())?;
        if count >= JOBS as i64 { Ok(()) } else { Err(format!("{count} rows")) }
    })
    .await;
    stage.quiet(SOON).await;
    stage.assert_played_once(JOBS);
    let rows = history.all().await.expect("read");
    assert_eq!(rows.len(), JOBS);
    assert!(rows.iter().all(|row| row.outcome.as_deref() == Some("succeeded")));
    let fired: BTreeSet<_> = rows.iter().map(|row| row.job_id.as_str()).collect();
    assert_eq!(fired, jobs.iter().map(String::as_str).collect(), "each job once");
    let seconds: BTreeSet<_> = rows.iter().map(|row| row.scheduled_at).collect();
    assert_eq!(seconds.len(), 1, "{seconds:?}");
    let used: BTreeSet<_> = rows.iter().filter_map(|row| row.ip.as_deref()).collect();
    assert_eq!(used.len(), 4, "all workers took part: {used:?}");
    let gateway = stage.cluster.etcd().gateway().await;
    let left =
        gateway.count(&format!("{}/client/execute/", stage.cluster.key_root())).await.expect("counted");
    assert_eq!(left, 0);

    let request = forest_proto::admin::v1::ListRunsRequest {
        page_size: 200,
        group: stage.group.clone(),
        ..Default::default()
    };
    let mut request = request;
    let (mut listed, admin) = (BTreeSet::new(), stage.cluster.admin());
    loop {
        let page = admin.list_runs(request.clone()).await.expect("a page");
        for run in &page.runs {
            assert!(listed.insert(run.id.clone()), "{} is on two pages", run.id);
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(listed.len(), JOBS);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_every_one_of_ten_thousand_jobs_once_and_in_order() {
    let Some(stage) =
        Stage::set(Cluster::builder().configure(|options| options.log_level = "info".into())).await
    else {
        return;
    };
    let jobs = stage.jobs_due_together(JOBS, Duration::from_secs(30 * 24 * 3600), json!({})).await;
    let other = stage.job(json!({"name": "another"})).await;
    let admin = stage.cluster.admin();
    eventually("the node knows all", SOON, async || {
        let known = admin.cluster().await.map_err(|e| e.to_string())?.jobs;
        if known == JOBS as u64 + 1 { Ok(()) } else { Err(format!("{known}")) }
    })
    .await;
    let address = format!("http://{}", stage.cluster.nodes()[0].server.address());
    let mut client = AdminClient::connect(address).await.expect("it answers");
    let list = async |client: &mut AdminClient<_>, filter: &ListJobsRequest| {
        let (mut ids, mut pages, mut request) = (Vec::new(), 0, filter.clone());
        loop {
            let page = client.list_jobs(request.clone()).await.expect("a page").into_inner();
            pages += 1;
            assert!(page.jobs.len() <= 200);
            ids.extend(page.jobs.iter().map(|job| {
                let document: Value = serde_json::from_str(&job.document).expect("JSON");
                document["id"].as_str().expect("an id").to_owned()
            }));
            if page.next_page_token.is_empty() {
                return (ids, pages);
            }
            request.page_token = page.next_page_token;
        }
    };
    let all = ListJobsRequest { page_size: 200, ..Default::default() };
    let (ids, pages) = list(&mut client, &all).await;
    assert!(ids.is_sorted(), "in the order of their ids");
    assert_eq!((ids.len(), pages), (JOBS + 1, (JOBS + 1).div_ceil(200)));
    let expected: BTreeSet<_> = jobs.iter().chain([&other]).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>(), expected);

    // A filter that passes hardly anything must not end the list early.
    let by_name = ListJobsRequest { name: "together-9999".into(), ..all.clone() };
    assert_eq!(list(&mut client, &by_name).await.0, [jobs[9999].clone()]);
    let by_name = ListJobsRequest { name: "another".into(), ..all.clone() };
    assert_eq!(list(&mut client, &by_name).await.0, [other]);
    let disabled = ListJobsRequest { enabled: Some(false), ..all };
    assert_eq!(list(&mut client, &disabled).await.0.len(), 0);
}
