//! The settings of a worker: collected, then checked all at once, before anything is started.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use forest_etcd::{EtcdConfig, SharedClock, SystemClock};
use forest_proto::{GroupName, Keyspace, TargetName};

use crate::agent::Graces;
use crate::blocking::{self, BlockingHandler};
use crate::error::Error;
use crate::execute::StopGraces;
use crate::handler::{AnyHandler, Handler, boxed};
use crate::registration::{Profile, random_from_system};
use crate::worker::{Plan, Worker};

/// Where etcd is if nobody says so: addresses separated by commas.
pub const ENDPOINTS_VARIABLE: &str = "FOREST_ETCD_ENDPOINTS";
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:2379";

const DEFAULT_CAPACITY: u32 = 64;
const MAX_CAPACITY: u32 = 10_000;
const DEFAULT_LEASE_TTL: Duration = Duration::from_secs(5);
const LEASE_TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(3600);
const DEFAULT_DRAIN_GRACE: Duration = Duration::from_secs(30);
const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);
const DEFAULT_KILL_GRACE: Duration = Duration::from_secs(5);
const MAX_GRACE: Duration = Duration::from_secs(7 * 24 * 3600);
const MAX_TEXT: usize = 256;
const MAX_LABELS: usize = 32;

/// Settings of a [`Worker`]. Made by [`Worker::builder`]; every setting but the jobs has a default.
#[must_use = "a builder does nothing until `build`"]
pub struct Builder {
    group: String,
    etcd: Option<EtcdConfig>,
    key_root: Option<String>,
    name: Option<String>,
    address: Option<String>,
    capacity: u32,
    lease_ttl: Duration,
    labels: BTreeMap<String, String>,
    drain_grace: Duration,
    stop_grace: Duration,
    kill_grace: Duration,
    jobs: Vec<(String, AnyHandler)>,
    simulated: Option<SharedClock>,
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let targets: Vec<&String> = self.jobs.iter().map(|(target, _)| target).collect();
        f.debug_struct("Builder").field("group", &self.group).field("jobs", &targets).finish_non_exhaustive()
    }
}

impl Builder {
    pub(crate) fn new(group: String) -> Self {
        Self {
            group,
            etcd: None,
            key_root: None,
            name: None,
            address: None,
            capacity: DEFAULT_CAPACITY,
            lease_ttl: DEFAULT_LEASE_TTL,
            labels: BTreeMap::new(),
            drain_grace: DEFAULT_DRAIN_GRACE,
            stop_grace: DEFAULT_STOP_GRACE,
            kill_grace: DEFAULT_KILL_GRACE,
            jobs: Vec::new(),
            simulated: None,
        }
    }

    /// The handler for a target. At least one is needed; each target can have one.
    ///
    /// Only runs of these targets are ever claimed. A run of another target that was given to this worker
    /// stays untouched, and the server moves it elsewhere. See [`Handler`] for what a handler is.
    pub fn job<Arguments>(mut self, target: impl Into<String>, handler: impl Handler<Arguments>) -> Self {
        self.jobs.push((target.into(), AnyHandler::Async(boxed(handler))));
        self
    }

    /// The handler for a target, one that blocks: each run has a thread of its own, of which there are never more
    /// than [`capacity`](Self::capacity). See [`BlockingHandler`] for what it is and how it is stopped.
    pub fn blocking_job<Arguments>(
        mut self,
        target: impl Into<String>,
        handler: impl BlockingHandler<Arguments>,
    ) -> Self {
        self.jobs.push((target.into(), AnyHandler::Blocking(blocking::boxed(handler))));
        self
    }

    /// The addresses of etcd's members: `host:port` or `http://host:port`. Default: the environment variable
    /// `FOREST_ETCD_ENDPOINTS` (separated by commas), else `http://127.0.0.1:2379`.
    pub fn etcd<E: Into<String>>(mut self, endpoints: impl IntoIterator<Item = E>) -> Self {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        self.etcd = Some(EtcdConfig { endpoints, ..self.etcd.take().unwrap_or_default() });
        self
    }

    /// How to reach etcd, in full: addresses, user, TLS, time limits. Replaces what [`etcd`](Self::etcd) said.
    pub fn etcd_config(mut self, config: EtcdConfig) -> Self {
        self.etcd = Some(config);
        self
    }

    /// The root of all keys, the same as the server's. Default: `/forest`.
    pub fn key_root(mut self, root: impl Into<String>) -> Self {
        self.key_root = Some(root.into());
        self
    }

    /// A name for people; several workers may share it. The id of each registration begins with it.
    /// Default: the host's name. At most 256 bytes.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where this process runs, for people. Nobody connects to it. Default: the host's name. At most 256 bytes.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// How many runs are executed at once, 1 to 10,000. Default: 64. The server is told, and gives a worker no
    /// more than that. A run counts until its result is in etcd.
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity;
        self
    }

    /// How long the server waits for a sign of life, 2 s to 1 h, in whole seconds. Default: 5 s. A worker that
    /// is cut off from etcd stops its handlers up to a second before this time is over. A shorter time finds a
    /// dead worker sooner; a longer one survives longer hiccups.
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.lease_ttl = ttl;
        self
    }

    /// A label that jobs can ask for. At most 32, each part at most 256 bytes. A key given twice keeps the
    /// later value.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// On shutdown, how long handlers may go on before they are asked to stop. Default: 30 s.
    pub fn drain_grace(mut self, grace: Duration) -> Self {
        self.drain_grace = grace;
        self
    }

    /// How long a handler may take to return after its run was cancelled, or took longer than its job allows,
    /// before it is dropped at its next `await`. Default: 10 s. The run counts as alive until then.
    pub fn stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    /// The same after this process may have lost its registration, and when it shuts down and the time for
    /// draining is over. Default: 5 s, which is how long the server, unless it is told otherwise, waits before it
    /// declares the run lost: a longer time here needs a longer one there.
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.kill_grace = grace;
        self
    }

    /// For a worker in a simulation, whose time is this clock and whose ids come from the thread's own generator
    /// of random numbers, so that a seed repeats them.
    #[doc(hidden)]
    pub fn simulated(mut self, clock: SharedClock) -> Self {
        self.simulated = Some(clock);
        self
    }

    /// Checks everything. Connects to nothing and starts nothing.
    ///
    /// # Errors
    /// [`Error::Config`] names the setting and says what is wrong with it.
    ///
    /// ```
    /// use forest_client::Worker;
    /// let error = Worker::builder("no/slashes").build().unwrap_err();
    /// assert!(error.to_string().contains("`group`"));
    /// let error = Worker::builder("trade").build().unwrap_err();
    /// assert!(error.to_string().contains("`job`"));
    /// ```
    pub fn build(self) -> Result<Worker, Error> {
        let group = GroupName::new(&self.group).map_err(|e| Error::config("group", e))?;
        let keys = match &self.key_root {
            Some(root) => Keyspace::new(root).map_err(|e| Error::config("key_root", e))?,
            None => Keyspace::default(),
        };
        if !LEASE_TTL.contains(&self.lease_ttl) {
            return Err(Error::config("lease_ttl", format!("{:?} is not from 2 s to 1 h", self.lease_ttl)));
        }
        let graces = Graces {
            drain: grace("drain_grace", self.drain_grace)?,
            handler: StopGraces {
                stop: grace("stop_grace", self.stop_grace)?,
                kill: grace("kill_grace", self.kill_grace)?,
            },
        };
        let handlers = handlers(&self.jobs)?;
        let host = || gethostname::gethostname().to_string_lossy().into_owned();
        let profile = Profile {
            name: text("name", self.name.unwrap_or_else(host))?,
            address: text("address", self.address.unwrap_or_else(host))?,
            capacity: capacity(self.capacity)?,
            labels: labels(self.labels)?,
            targets: handlers.keys().cloned().collect(),
        };
        let etcd = self.etcd.unwrap_or_else(from_environment);
        let (clock, random): (_, fn() -> u64) = match self.simulated {
            None => (SystemClock::shared(), random_from_system),
            Some(clock) => (clock, || fastrand::u64(..)),
        };
        let handlers = Arc::new(handlers);
        let lease_ttl = self.lease_ttl;
        Worker::new(Plan { group, keys, graces, handlers, profile, etcd, clock, random, lease_ttl })
    }
}

fn from_environment() -> EtcdConfig {
    match std::env::var(ENDPOINTS_VARIABLE) {
        Ok(list) => EtcdConfig::new(list.split(',').map(str::trim).filter(|endpoint| !endpoint.is_empty())),
        Err(_) => EtcdConfig::new([DEFAULT_ENDPOINT]),
    }
}

fn handlers(jobs: &[(String, AnyHandler)]) -> Result<BTreeMap<TargetName, AnyHandler>, Error> {
    if jobs.is_empty() {
        return Err(Error::config("job", "a worker without a handler could do nothing"));
    }
    let mut handlers = BTreeMap::new();
    for (target, handler) in jobs {
        let target = TargetName::new(target).map_err(|e| Error::config("job", e))?;
        if handlers.insert(target.clone(), handler.clone()).is_some() {
            return Err(Error::config("job", format!("target {target} has two handlers")));
        }
    }
    Ok(handlers)
}

fn capacity(capacity: u32) -> Result<u32, Error> {
    match capacity {
        1..=MAX_CAPACITY => Ok(capacity),
        _ => Err(Error::config("capacity", format!("{capacity} is not from 1 to {MAX_CAPACITY}"))),
    }
}

fn grace(field: &'static str, grace: Duration) -> Result<Duration, Error> {
    if grace > MAX_GRACE {
        return Err(Error::config(field, format!("{grace:?} is more than a week")));
    }
    Ok(grace)
}

fn text(field: &'static str, text: String) -> Result<String, Error> {
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(Error::config(
            field,
            format!("must be at most {MAX_TEXT} bytes without control characters"),
        ));
    }
    Ok(text)
}

fn labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Error> {
    if labels.len() > MAX_LABELS {
        return Err(Error::config("label", format!("{} labels; {MAX_LABELS} are allowed", labels.len())));
    }
    if labels.keys().any(String::is_empty) {
        return Err(Error::config("label", "a key is empty"));
    }
    let checked = labels.into_iter().map(|(key, value)| Ok((text("label", key)?, text("label", value)?)));
    checked.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::JobContext;

    async fn nothing(_: JobContext) -> Result<(), String> {
        Ok(())
    }

    fn good() -> Builder {
        Builder::new("trade".into()).etcd(["127.0.0.1:2379"]).job("pay", nothing)
    }

    #[test]
    fn defaults_are_enough() {
        assert!(good().build().is_ok());
        assert!(Builder::new("trade".into()).job("pay", nothing).build().is_ok());
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        let check = |builder: Builder, field: &str, part: &str| {
            let error = builder.build().map(|_| ()).expect_err(field).to_string();
            assert!(error.contains(&format!("`{field}`")) && error.contains(part), "{error}");
        };
        check(Builder { group: "a/b".into(), ..good() }, "group", "may contain only");
        check(good().key_root("forest"), "key_root", "forest");
        check(good().capacity(0), "capacity", "1 to 10000");
        check(good().capacity(10_001), "capacity", "1 to 10000");
        check(good().lease_ttl(Duration::from_secs(1)), "lease_ttl", "2 s to 1 h");
        check(good().drain_grace(Duration::MAX), "drain_grace", "week");
        check(good().kill_grace(Duration::MAX), "kill_grace", "week");
        check(good().stop_grace(Duration::MAX), "stop_grace", "week");
        check(good().blocking_job("pay", |_: JobContext| Ok::<_, String>(())), "job", "two handlers");
        check(good().name("a\nb"), "name", "control");
        check(good().address("x".repeat(257)), "address", "256");
        check(good().label("", "x"), "label", "empty");
        check((0..33).fold(good(), |builder, n| builder.label(format!("k{n}"), "v")), "label", "32");
        check(good().job("pay", nothing), "job", "two handlers");
        check(good().job("p y", nothing), "job", "target");
        check(good().etcd(["ftp://a:1"]), "etcd", "ftp://a:1");
        check(good().etcd(Vec::<String>::new()), "etcd", "no etcd endpoint");
    }
}
