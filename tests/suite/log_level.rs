//! The log level of a node that runs: changed through another node, and back by itself.

use forest_proto::admin::v1::admin_client::AdminClient;
use forest_proto::admin::v1::{
    GetLogLevelRequest, ListAuditRequest, LogLevel, ResetLogLevelRequest, SetLogLevelRequest,
};
use forest_tests::cluster::{Cluster, ClusterNode};
use forest_tests::services::available;
use forest_tests::wait::eventually;
use tonic::Code;
use tonic::transport::Channel;

use crate::stage::SOON;

const CHANGED: &str = "the log level was changed for a while";
const BACK: &str = "the log level is as configured again";

async fn client(node: &ClusterNode) -> AdminClient<Channel> {
    AdminClient::connect(format!("http://{}", node.server.address())).await.expect("it answers")
}

/// The id under which a node registered: its name and a mark of this start.
async fn id(cluster: &Cluster, node: &ClusterNode) -> String {
    let address = node.server.address().to_string();
    eventually("the node says that it is there", SOON, async || {
        let nodes = cluster.admin().list_nodes().await.ok()?;
        Some(nodes.into_iter().find(|listed| listed.address == address)?.id)
    })
    .await
}

fn set(node: &str, filter: &str, lives_ms: i64) -> SetLogLevelRequest {
    SetLogLevelRequest { node: node.into(), filter: filter.into(), lives_ms }
}

async fn shown(api: &mut AdminClient<Channel>, node: &str) -> LogLevel {
    api.get_log_level(GetLogLevelRequest { node: node.into() }).await.expect("shown").into_inner()
}

fn debug_lines(node: &ClusterNode) -> usize {
    node.server.output().lines().filter(|line| line.contains("\"level\":\"DEBUG\"")).count()
}

#[tokio::test]
async fn a_log_level_changes_through_any_node_and_goes_back_by_itself() {
    let builder = Cluster::builder().nodes(2).configure(|options| options.log_level = "info".into());
    let Some(cluster) = available(builder.start().await) else { return };
    let (asked, other) = (&cluster.nodes()[0], &cluster.nodes()[1]);
    let (node, mut api) = (id(&cluster, other).await, client(asked).await);

    let level = api.set_log_level(set(&node, "debug", 10_000)).await.expect("changed").into_inner();
    assert_eq!((level.filter.as_str(), level.configured.as_str()), ("debug", "info"));
    other.server.wait_for_line(CHANGED, SOON).await;
    eventually("it logs more", SOON, async || debug_lines(other) > 0).await;
    other.server.wait_for_line(BACK, SOON).await;
    eventually("nothing is left of it", SOON, async || shown(&mut api, &node).await.expires_at == 0).await;
    assert_eq!(shown(&mut api, &node).await.filter, "info");
    assert_eq!(debug_lines(asked), 0, "the other node was not meant");

    let audits = api.list_audit(ListAuditRequest { action: "node.log_level".into(), ..Default::default() });
    let record = audits.await.expect("audit").into_inner().records;
    assert!(record.len() == 1 && record[0].target == node, "{record:?}");
}

#[tokio::test]
async fn a_log_level_can_be_set_back_and_changed_again() {
    let builder = Cluster::builder().configure(|options| options.log_level = "info".into());
    let Some(cluster) = available(builder.start().await) else { return };
    let node = id(&cluster, &cluster.nodes()[0]).await;
    let mut api = client(&cluster.nodes()[0]).await;
    for filter in ["off", "warn,forest_server::scheduler=debug"] {
        api.set_log_level(set(&node, filter, 0)).await.expect("changed");
        assert_eq!(shown(&mut api, &node).await.filter, filter);
    }
    assert!(shown(&mut api, &node).await.expires_at > 0);
    let back = api.reset_log_level(ResetLogLevelRequest { node: node.clone() }).await.expect("set back");
    assert_eq!(back.into_inner().expires_at, 0);
    cluster.nodes()[0].server.wait_for_line(BACK, SOON).await;
    // Nothing to set back is no mistake.
    api.reset_log_level(ResetLogLevelRequest { node }).await.expect("nothing to do");
}

#[tokio::test]
async fn a_log_level_that_cannot_be_is_refused_by_field() {
    let Some(cluster) = available(Cluster::builder().start().await) else { return };
    let node = id(&cluster, &cluster.nodes()[0]).await;
    let mut api = client(&cluster.nodes()[0]).await;
    let long = "x".repeat(2_000);
    let wrong = [
        ("filter", "degub", 0),
        ("filter", "", 0),
        ("filter", &long, 0),
        ("filter", "info,[a{b=/(/}]=debug", 0),
    ];
    let wrong = wrong.into_iter().chain([
        ("lives_ms", "debug", 1),
        ("lives_ms", "debug", i64::MAX),
        ("lives_ms", "debug", -5),
    ]);
    for (field, filter, lives_ms) in wrong {
        let refused = api.set_log_level(set(&node, filter, lives_ms)).await.expect_err(filter);
        assert_eq!(refused.code(), Code::InvalidArgument, "{filter}: {refused}");
        assert!(refused.message().starts_with(&format!("{field}: ")), "{filter}: {refused}");
    }
    let missing = api.set_log_level(set("nobody", "debug", 0)).await.expect_err("there is none");
    assert_eq!(missing.code(), Code::NotFound);
    assert_eq!(shown(&mut api, &node).await.expires_at, 0);
}
