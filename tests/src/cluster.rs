//! Several server nodes with a key root, a database and, if asked for, a breakable network of their own.

use std::time::Duration;

use crate::admin::Admin;
use crate::history::History;
use crate::names::{key_root, unique};
use crate::process::{ServerOptions, ServerProcess};
use crate::proxy::{Protocol, Proxy};
use crate::services::{
    Database, Etcd, EtcdOptions, MariaDb, ServiceError, mariadb, shared_etcd, shared_mariadb,
};
use crate::wait::eventually;

/// How long a cluster may take to have a leader, beyond the time of a lease that must run out first.
const LEADER_WITHIN: Duration = Duration::from_secs(30);

/// A service that others use too, or one of this cluster's own.
#[derive(Debug)]
enum Held<T: 'static> {
    Shared(&'static T),
    Private(T),
}

impl<T> Held<T> {
    fn get(&self) -> &T {
        match self {
            Self::Shared(service) => service,
            Self::Private(service) => service,
        }
    }
}

/// How a cluster is made up.
#[derive(Debug)]
pub struct ClusterBuilder {
    nodes: usize,
    private_etcd: Option<EtcdOptions>,
    private_mariadb: bool,
    proxied: bool,
    lease_ttl: Duration,
    configure: fn(&mut ServerOptions),
}

impl ClusterBuilder {
    /// How many nodes. Default 1.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// An etcd of its own, for tests that hurt it. Default: the shared one.
    #[must_use]
    pub fn private_etcd(mut self, options: EtcdOptions) -> Self {
        self.private_etcd = Some(options);
        self
    }

    /// A MariaDB of its own, for tests that hurt it. Default: the shared one.
    #[must_use]
    pub fn private_mariadb(mut self) -> Self {
        self.private_mariadb = true;
        self
    }

    /// Each node reaches etcd and MariaDB through proxies of its own. Default: directly.
    #[must_use]
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// How long a leader that vanished is believed in. Default 3 s, to keep tests short.
    #[must_use]
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.lease_ttl = ttl;
        self
    }

    /// Changes every node's options before it starts.
    #[must_use]
    pub fn configure(mut self, configure: fn(&mut ServerOptions)) -> Self {
        self.configure = configure;
        self
    }

    /// Starts everything. All nodes answer and one leads when it returns.
    ///
    /// # Errors
    /// If a service is missing or does not start.
    ///
    /// # Panics
    /// If a node does not become ready.
    pub async fn start(self) -> Result<Cluster, ServiceError> {
        let etcd = match self.private_etcd {
            Some(options) => Held::Private(Etcd::start(options).await?),
            None => Held::Shared(shared_etcd().await?),
        };
        let mariadb = match self.private_mariadb {
            true => Held::Private(MariaDb::start().await?),
            false => Held::Shared(shared_mariadb().await?),
        };
        let database = mariadb.get().database("forest").await;
        let key_root = key_root("forest");
        let mut nodes = Vec::new();
        for _ in 0..self.nodes {
            let network = match self.proxied {
                true => Some(Network::start(etcd.get(), mariadb.get()).await),
                false => None,
            };
            let endpoint = network.as_ref().map_or_else(|| etcd.get().endpoint(), |n| n.etcd.endpoint());
            let url = match &network {
                Some(network) => mariadb::url(network.mariadb.address(), &database.name),
                None => database.url.clone(),
            };
            let mut options = ServerOptions::new(vec![endpoint], &key_root, &url, &unique("node"));
            options.lease_ttl = Some(self.lease_ttl);
            (self.configure)(&mut options);
            nodes.push(ClusterNode { server: ServerProcess::start(&options)?, network });
        }
        let cluster = Cluster { nodes, etcd, mariadb, database, key_root, lease_ttl: self.lease_ttl };
        for node in &cluster.nodes {
            node.server.wait_ready().await;
        }
        cluster.leader().await;
        Ok(cluster)
    }
}

/// What lies between one node and its services.
#[derive(Debug)]
pub struct Network {
    /// Between the node and etcd.
    pub etcd: Proxy,
    /// Between the node and MariaDB.
    pub mariadb: Proxy,
}

impl Network {
    async fn start(etcd: &Etcd, mariadb: &MariaDb) -> Self {
        Self {
            etcd: Proxy::start(etcd.address(), Protocol::Http2).await,
            mariadb: Proxy::start(mariadb.address(), Protocol::Plain).await,
        }
    }
}

/// One node.
#[derive(Debug)]
pub struct ClusterNode {
    /// Its process.
    pub server: ServerProcess,
    network: Option<Network>,
}

impl ClusterNode {
    /// Its breakable network.
    ///
    /// # Panics
    /// If the cluster was not built with [`ClusterBuilder::proxied`].
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("the cluster is proxied")
    }
}

/// A running cluster. Its processes end when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    // Dropped in this order: nodes before the services that they use.
    nodes: Vec<ClusterNode>,
    etcd: Held<Etcd>,
    mariadb: Held<MariaDb>,
    database: Database,
    key_root: String,
    lease_ttl: Duration,
}

impl Cluster {
    /// One node on shared services, until told otherwise.
    pub fn builder() -> ClusterBuilder {
        ClusterBuilder {
            nodes: 1,
            private_etcd: None,
            private_mariadb: false,
            proxied: false,
            lease_ttl: Duration::from_secs(3),
            configure: |_| {},
        }
    }

    /// All nodes, running or not.
    pub fn nodes(&self) -> &[ClusterNode] {
        &self.nodes
    }

    /// A client of all nodes.
    pub fn admin(&self) -> Admin {
        Admin::new(self.nodes.iter().map(|node| node.server.address()).collect())
    }

    /// The history database, past any proxy.
    ///
    /// # Panics
    /// If its URL is none.
    pub fn history(&self) -> History {
        History::new(&self.database.url).expect("the harness wrote the URL")
    }

    /// The etcd it uses.
    pub fn etcd(&self) -> &Etcd {
        self.etcd.get()
    }

    /// The MariaDB it uses.
    pub fn mariadb(&self) -> &MariaDb {
        self.mariadb.get()
    }

    /// Its database there.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The root of its keys.
    pub fn key_root(&self) -> &str {
        &self.key_root
    }

    /// The node that leads and runs, by etcd's word; waits for one if there is none.
    ///
    /// # Panics
    /// If none comes in time.
    pub async fn leader(&self) -> &ClusterNode {
        let gateway = self.etcd().gateway().await;
        let key = format!("{}/server/elect/leader", self.key_root);
        eventually("a leader", self.lease_ttl + LEADER_WITHIN, async || {
            let entry = gateway.get(&key).await.map_err(|e| e.to_string())?;
            let entry = entry.ok_or("no leader key")?;
            let mut running = self.nodes.iter().filter(|node| node.server.is_running());
            let leads = |node: &&ClusterNode| names(&entry.value, node.server.name());
            running.find(leads).ok_or_else(|| format!("the leader key says {:?}", entry.value))
        })
        .await
    }

    /// The running nodes that do not lead.
    ///
    /// # Panics
    /// If there is no leader.
    pub async fn followers(&self) -> Vec<&ClusterNode> {
        let leader = self.leader().await.server.name();
        let running = self.nodes.iter().filter(|node| node.server.is_running());
        running.filter(|node| node.server.name() != leader).collect()
    }

    /// Kills the leader without a warning, and returns the node it was.
    ///
    /// # Panics
    /// If there is no leader.
    pub async fn kill_leader(&self) -> &ClusterNode {
        let leader = self.leader().await;
        leader.server.kill9();
        leader
    }
}

/// Whether a text speaks of the node of this name: `node_7_1` is not meant by `node_7_12`.
fn names(text: &str, name: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    text.match_indices(name).any(|(at, _)| ends(&text[at + name.len()..]))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_node_is_not_mistaken_for_its_neighbour() {
        assert!(super::names(r#"{"id":"node_7_1-x8f2"}"#, "node_7_1"));
        assert!(super::names("node_7_1", "node_7_1"));
        assert!(!super::names("node_7_12-x8f2", "node_7_1"));
    }
}
