//! Real etcd servers: one shared by all tests of a process, private ones for tests that hurt them, and
//! clusters of several members.
//!
//! `FOREST_TEST_ETCD` names another etcd than the installed one.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use tokio::sync::OnceCell;

use super::{Authority, Child, DataDir, Gateway, ServiceError, Signed, free_address, program};
use crate::wait::within_or_last;

/// How long etcd may take until it answers: under a second on an idle machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// A port may be taken between being chosen and being listened on.
const ATTEMPTS: usize = 3;

/// The administrator, where users are enabled.
pub const ROOT: (&str, &str) = ("root", "root-of-the-test");
/// A user that may read and write every key, and nothing else.
pub const USER: (&str, &str) = ("forest", "forest-of-the-test");

/// How an etcd differs from a plain one.
#[derive(Debug, Clone, Default)]
pub struct EtcdOptions {
    /// With the users [`ROOT`] and [`USER`]; nobody else gets in.
    pub users: bool,
    /// After how long a user's token is void if unused. etcd counts whole seconds; default 300.
    pub token_ttl: Option<Duration>,
    /// How large the store may grow before etcd refuses to write.
    pub quota_bytes: Option<u64>,
    /// Further arguments, such as `--snapshot-count=100`.
    pub arguments: Vec<String>,
    /// With a second port that speaks TLS alone, beside the plain one through which tests look inside.
    pub tls: Option<EtcdTls>,
}

/// Certificates of an etcd.
#[derive(Debug, Clone)]
pub struct EtcdTls {
    certificate: Signed,
    client_ca: PathBuf,
}

impl EtcdTls {
    /// Signed by `own`. Clients show a certificate that `clients` has signed.
    pub fn new(own: &Authority, clients: &Authority) -> Self {
        Self { certificate: own.sign(&["127.0.0.1", "localhost"]), client_ca: clients.file().to_owned() }
    }
}

/// One etcd member.
#[derive(Debug)]
pub struct Etcd {
    child: Child,
    client: SocketAddr,
    secure: Option<SocketAddr>,
    users: bool,
    _folder: DataDir,
}

/// The etcd that all tests of this process share, each with a key root of its own.
///
/// # Errors
/// If etcd is missing or does not start.
pub async fn shared_etcd() -> Result<&'static Etcd, ServiceError> {
    static SHARED: OnceCell<Etcd> = OnceCell::const_new();
    SHARED.get_or_try_init(|| Etcd::start(EtcdOptions::default())).await
}

/// A cluster of `members` that knows nothing yet. All members are up when it returns.
///
/// # Errors
/// If etcd is missing or does not start.
pub async fn cluster_of(members: usize) -> Result<Vec<Etcd>, ServiceError> {
    let mut attempt = 1;
    loop {
        match Etcd::start_members(members, &EtcdOptions::default()).await {
            Err(ServiceError::Failed { .. }) if attempt < ATTEMPTS => attempt += 1,
            done => return done,
        }
    }
}

impl Etcd {
    /// A private single member.
    ///
    /// # Errors
    /// If etcd is missing or does not start.
    pub async fn start(options: EtcdOptions) -> Result<Self, ServiceError> {
        let mut attempt = 1;
        let etcd = loop {
            match Self::start_members(1, &options).await {
                Ok(mut members) => break members.remove(0),
                Err(ServiceError::Failed { .. }) if attempt < ATTEMPTS => attempt += 1,
                Err(e) => return Err(e),
            }
        };
        if options.users {
            etcd.enable_users().await.map_err(|e| ServiceError::failed("etcd's users", e))?;
        }
        Ok(etcd)
    }

    async fn start_members(count: usize, options: &EtcdOptions) -> Result<Vec<Self>, ServiceError> {
        let program = program("etcd", "FOREST_TEST_ETCD", "etcd-server")?;
        let addresses: Vec<_> = (0..count).map(|_| (free_address(), free_address())).collect();
        let initial: Vec<_> =
            addresses.iter().enumerate().map(|(n, (_, peer))| format!("m{n}=http://{peer}")).collect();
        let initial = initial.join(",");
        let mut members = Vec::new();
        for (n, (client, peer)) in addresses.into_iter().enumerate() {
            let folder = DataDir::new("etcd");
            let secure = options.tls.as_ref().map(|_| free_address());
            let mut arguments = arguments(&format!("m{n}"), (client, secure), peer, &initial, &folder);
            arguments.extend(options_as_arguments(options));
            let child = Child::new(&format!("etcd {client}"), &program, arguments, folder.path());
            child.launch()?;
            members.push(Self { child, client, secure, users: options.users, _folder: folder });
        }
        for member in &members {
            member.ready().await?;
        }
        Ok(members)
    }

    async fn ready(&self) -> Result<(), ServiceError> {
        let gateway = Gateway::new(self.client);
        let ready = within_or_last(READY_WITHIN, async || match self.child.exited() {
            Some(status) => Ok(Err(status.to_string())),
            None => gateway.healthy().await.map(Ok),
        });
        let why = match ready.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(status)) => status,
            Err(last) => last,
        };
        Err(ServiceError::failed("etcd", format!("{why}\n{}", self.child.tail())))
    }

    async fn enable_users(&self) -> Result<(), super::gateway::GatewayError> {
        let gateway = Gateway::new(self.client);
        for (name, password) in [ROOT, USER] {
            gateway.call("auth/user/add", &json!({"name": name, "password": password})).await?;
            gateway.call("auth/role/add", &json!({"name": name})).await?;
            gateway.call("auth/user/grant", &json!({"user": name, "role": name})).await?;
        }
        // From the byte 0 to the byte 0: every key.
        let everything = json!({"permType": "READWRITE", "key": "AA==", "range_end": "AA=="});
        gateway.call("auth/role/grant", &json!({"name": USER.0, "perm": everything})).await?;
        gateway.call("auth/enable", &json!({})).await.map(drop)
    }

    /// `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.client)
    }

    /// `https://127.0.0.1:port`.
    ///
    /// # Panics
    /// If it was started without TLS.
    pub fn secure_endpoint(&self) -> String {
        format!("https://{}", self.secure.expect("it was started with TLS"))
    }

    /// Where clients connect, for a proxy in front of it.
    pub fn address(&self) -> SocketAddr {
        self.client
    }

    /// A look inside, as the administrator where there are users.
    ///
    /// # Panics
    /// If the administrator cannot sign in.
    pub async fn gateway(&self) -> Gateway {
        let gateway = Gateway::new(self.client);
        if !self.users {
            return gateway;
        }
        gateway.signed_in(ROOT.0, ROOT.1).await.expect("the administrator signs in")
    }

    /// Freezes it; connections stay open and nothing answers.
    pub async fn stop(&self) {
        self.child.stop().await;
    }

    /// Lets it go on after [`Etcd::stop`].
    pub async fn cont(&self) {
        self.child.cont().await;
    }

    /// Kills it. What it acknowledged is on disk as far as the operating system is concerned.
    pub fn kill(&self) {
        self.child.kill();
    }

    /// Starts it again on the same data and ports, after [`Etcd::kill`], and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    pub async fn restart(&self) {
        self.child.kill();
        self.child.launch().expect("what ran before starts again");
        if let Err(e) = self.ready().await {
            panic!("{e}");
        }
    }

    /// As [`Etcd::restart`], without waiting: a member that comes back alone has no quorum to be ready with.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn launch(&self) {
        self.child.launch().expect("what ran before starts again");
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        self.child.tail()
    }
}

fn arguments(
    name: &str,
    (client, secure): (SocketAddr, Option<SocketAddr>),
    peer: SocketAddr,
    initial: &str,
    folder: &DataDir,
) -> Vec<OsString> {
    let data: PathBuf = folder.path().join("data");
    let secure = secure.map(|secure| format!(",https://{secure}")).unwrap_or_default();
    let (client, peer) = (format!("http://{client}{secure}"), format!("http://{peer}"));
    let mut arguments: Vec<OsString> = vec!["--data-dir".into(), data.into()];
    let pairs = [
        ("--name", name),
        ("--listen-client-urls", &client),
        ("--advertise-client-urls", &client),
        ("--listen-peer-urls", &peer),
        ("--initial-advertise-peer-urls", &peer),
        ("--initial-cluster", initial),
        ("--logger", "zap"),
        ("--log-level", "warn"),
    ];
    arguments.extend(pairs.iter().flat_map(|(name, value)| [(*name).into(), (*value).into()]));
    // Survives the death of etcd, not that of the machine: all that a test can ask for.
    arguments.push("--unsafe-no-fsync".into());
    arguments
}

fn options_as_arguments(options: &EtcdOptions) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = options.arguments.iter().map(Into::into).collect();
    if options.users {
        // The cheapest hash: signing in shall not be what a test waits for.
        arguments.push("--bcrypt-cost=4".into());
    }
    if let Some(tls) = &options.tls {
        let pairs =
            [("cert", &tls.certificate.cert), ("key", &tls.certificate.key), ("trusted-ca", &tls.client_ca)];
        arguments.extend(pairs.map(|(name, file)| format!("--{name}-file={}", file.display()).into()));
        arguments.push("--client-cert-auth".into());
    }
    if let Some(ttl) = options.token_ttl {
        arguments.push(format!("--auth-token-ttl={}", ttl.as_secs().max(1)).into());
    }
    if let Some(bytes) = options.quota_bytes {
        arguments.push(format!("--quota-backend-bytes={bytes}").into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::key_root;
    use crate::require;

    #[tokio::test]
    async fn the_shared_etcd_keeps_what_it_is_given() {
        let gateway = require!(shared_etcd().await).gateway().await;
        let root = key_root("gateway");
        for n in 0..1_203 {
            gateway.put(&format!("{root}/{n:04}"), "x").await.expect("put");
        }
        assert_eq!(gateway.count(&format!("{root}/")).await.expect("count"), 1_203);
        let all = gateway.list(&format!("{root}/")).await.expect("list");
        assert_eq!(all.len(), 1_203, "several pages");
        assert!(all.is_sorted_by(|a, b| a.key < b.key && a.mod_revision < b.mod_revision));
        assert!(gateway.delete(&all[0].key).await.expect("delete"));
        assert_eq!(gateway.get(&all[0].key).await.expect("get"), None);
    }

    #[tokio::test]
    async fn a_private_etcd_survives_being_frozen_and_killed() {
        let etcd = require!(Etcd::start(EtcdOptions::default()).await);
        let gateway = etcd.gateway().await;
        gateway.put("/a", "1").await.expect("put");
        etcd.stop().await;
        let frozen = tokio::time::timeout(Duration::from_millis(300), gateway.get("/a")).await;
        assert!(frozen.is_err(), "a frozen etcd answers nothing: {frozen:?}");
        etcd.cont().await;
        assert!(gateway.get("/a").await.expect("get").is_some());
        etcd.kill();
        assert!(matches!(gateway.get("/a").await, Err(super::super::gateway::GatewayError::Unreachable(_))));
        etcd.restart().await;
        assert_eq!(gateway.get("/a").await.expect("get").map(|e| e.value), Some("1".into()));
    }

    #[tokio::test]
    async fn users_are_required_where_they_are_enabled() {
        let token_ttl = Some(Duration::from_secs(2));
        let etcd = require!(Etcd::start(EtcdOptions { users: true, token_ttl, ..Default::default() }).await);
        let nobody = Gateway::new(etcd.address());
        assert!(nobody.put("/a", "1").await.is_err());
        let user = nobody.signed_in(USER.0, USER.1).await.expect("the user signs in");
        user.put("/a", "1").await.expect("the user may write");
        assert!(user.call("auth/user/list", &json!({})).await.is_err(), "and is no administrator");
        // Using a token prolongs it, so that each look takes a fresh one.
        let mut unused = Vec::new();
        for _ in 0..200 {
            unused.push(nobody.signed_in(USER.0, USER.1).await.expect("the user signs in"));
        }
        crate::wait::eventually("a token is void", Duration::from_secs(30), async || {
            let user = unused.pop().expect("enough tokens");
            user.get("/a").await.is_err()
        })
        .await;
        assert!(etcd.gateway().await.get("/a").await.expect("the administrator reads").is_some());
    }

    #[tokio::test]
    async fn a_full_etcd_refuses_to_write() {
        let quota_bytes = Some(2 * 1024 * 1024);
        let etcd = require!(Etcd::start(EtcdOptions { quota_bytes, ..Default::default() }).await);
        let gateway = etcd.gateway().await;
        let value = "x".repeat(256 * 1024);
        let mut refused = None;
        for n in 0..40 {
            if let Err(e) = gateway.put(&format!("/{n}"), &value).await {
                refused = Some(e.to_string());
                break;
            }
        }
        assert!(refused.as_ref().is_some_and(|e| e.contains("space exceeded")), "{refused:?}");
        for n in 0..40 {
            gateway.delete(&format!("/{n}")).await.expect("deleting is still possible");
        }
        gateway.compact(gateway.revision().await.expect("revision")).await.expect("compact");
        gateway.defragment().await.expect("defragment");
        gateway.disarm().await.expect("disarm");
        gateway.put("/a", "1").await.expect("there is space again");
    }

    #[tokio::test]
    async fn a_cluster_goes_on_without_one_member() {
        let members = require!(cluster_of(3).await);
        let gateway = members[0].gateway().await;
        gateway.put("/a", "1").await.expect("put");
        members[2].kill();
        crate::wait::eventually("two of three write", Duration::from_secs(20), async || {
            gateway.put("/a", "2").await
        })
        .await;
        members[2].restart().await;
        let third = members[2].gateway().await;
        assert_eq!(third.get("/a").await.expect("get").map(|e| e.value), Some("2".into()));
    }
}
