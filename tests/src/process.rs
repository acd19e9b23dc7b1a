//! Forest's own binaries as children of a test: the real programs, found beside the test binary.
//!
//! The programs are not built from here; `make test` builds them first. When a test fails, the end of each
//! program's output is shown.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::Signal;

use crate::admin::Admin;
use crate::services::{Child, DataDir, ServiceError, build_dir, free_address};
use crate::wait::within_or_last;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// How a server node is started.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// etcd's endpoints, `http://host:port`.
    pub etcd_endpoints: Vec<String>,
    /// The root of all keys.
    pub key_root: String,
    /// The history database.
    pub db_url: String,
    /// The node's name.
    pub node_name: String,
    /// How long a leader that vanished is still believed in. Default: the server's.
    pub lease_ttl: Option<Duration>,
    /// How late a fire may be. Default: the server's.
    pub misfire_threshold: Option<Duration>,
    /// How long after its client vanished a run is believed lost. Default: the server's.
    pub lost_grace: Option<Duration>,
    /// What is logged.
    pub log_level: String,
    /// Further arguments.
    pub arguments: Vec<String>,
    /// Further environment variables.
    pub variables: Vec<(String, String)>,
}

impl ServerOptions {
    /// A node with the server's defaults.
    pub fn new(etcd_endpoints: Vec<String>, key_root: &str, db_url: &str, node_name: &str) -> Self {
        Self {
            etcd_endpoints,
            key_root: key_root.into(),
            db_url: db_url.into(),
            node_name: node_name.into(),
            lease_ttl: None,
            misfire_threshold: None,
            lost_grace: None,
            log_level: "debug".into(),
            arguments: Vec::new(),
            variables: Vec::new(),
        }
    }

    fn as_arguments(&self, listen: SocketAddr) -> Vec<OsString> {
        let mut pairs = vec![
            ("--etcd-endpoints", self.etcd_endpoints.join(",")),
            ("--key-root", self.key_root.clone()),
            ("--db-url", self.db_url.clone()),
            ("--listen", listen.to_string()),
            ("--node-name", self.node_name.clone()),
            ("--log-level", self.log_level.clone()),
            ("--log-format", "json".into()),
        ];
        let durations = [
            ("--lease-ttl", self.lease_ttl),
            ("--misfire-threshold", self.misfire_threshold),
            ("--lost-grace", self.lost_grace),
        ];
        pairs.extend(
            durations.iter().filter_map(|(name, d)| Some((*name, format!("{}ms", (*d)?.as_millis())))),
        );
        let pairs = pairs.into_iter().flat_map(|(name, value)| [name.into(), value.into()]);
        pairs.chain(self.arguments.iter().map(Into::into)).collect()
    }
}

/// One `forest-server`.
#[derive(Debug)]
pub struct ServerProcess {
    program: Program,
    address: SocketAddr,
    name: String,
}

impl ServerProcess {
    /// Starts a node. It need not be ready when this returns.
    ///
    /// # Errors
    /// If the program cannot be started.
    ///
    /// # Panics
    /// If the program has not been built.
    pub fn start(options: &ServerOptions) -> Result<Self, ServiceError> {
        let address = free_address();
        let arguments = options.as_arguments(address);
        let name = options.node_name.clone();
        let program = Program::start("forest-server", &name, arguments, options.variables.clone())?;
        Ok(Self { program, address, name })
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it serves the admin API.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of this node alone.
    pub fn admin(&self) -> Admin {
        Admin::new(vec![self.address])
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// If it ends before, or does not answer in time.
    pub async fn wait_ready(&self) {
        let admin = self.admin();
        let ready = within_or_last(READY_WITHIN, async || match self.program.child.exited() {
            Some(status) => Ok(Err(format!("it ended: {status}"))),
            None => admin.cluster().await.map(|_| Ok(())),
        });
        if let Err(why) = ready.await.flatten() {
            panic!("node {} is not ready: {why}\n{}", self.name, self.program.child.tail());
        }
    }

    /// Starts it again, on the same port, after it has ended.
    ///
    /// # Panics
    /// If it is running or cannot be started.
    pub fn restart(&self) {
        self.program.child.launch().expect("what ran before starts again");
    }
}

/// One worker: any program of this workspace that is a Forest client.
#[derive(Debug)]
pub struct WorkerProcess {
    program: Program,
}

impl WorkerProcess {
    /// Starts `forest-test-worker` with these arguments.
    ///
    /// # Errors
    /// If the program cannot be started.
    ///
    /// # Panics
    /// If the program has not been built.
    pub fn start(name: &str, arguments: Vec<String>) -> Result<Self, ServiceError> {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Ok(Self { program: Program::start("forest-test-worker", name, arguments, Vec::new())? })
    }
}

/// What every program of ours can be put through.
macro_rules! child_of {
    ($process:ident) => {
        impl $process {
            /// Asks it to end (SIGTERM).
            pub fn term(&self) {
                self.program.child.signal(Signal::TERM);
            }

            /// Kills it without a warning, and waits until it is gone.
            pub fn kill9(&self) {
                self.program.child.kill();
            }

            /// Freezes it; returns when it stands still.
            pub async fn stop(&self) {
                self.program.child.stop().await;
            }

            /// Lets it go on after being frozen.
            pub async fn cont(&self) {
                self.program.child.cont().await;
            }

            /// Whether it has been started and not yet ended.
            pub fn is_running(&self) -> bool {
                self.program.child.exited().is_none() && self.program.child.pid().is_some()
            }

            /// Its process id while it runs.
            pub fn pid(&self) -> Option<u32> {
                self.program.child.pid()
            }

            /// Waits for its end.
            ///
            /// # Panics
            /// If it does not come within `within`.
            pub async fn wait_exit(&self, within: Duration) -> ExitStatus {
                self.program.child.wait_exit(within).await
            }

            /// All it has written so far.
            pub fn output(&self) -> String {
                self.program.child.output()
            }

            /// Waits until a line of its output contains `text`, and returns that line.
            ///
            /// # Panics
            /// If none does within `within`.
            pub async fn wait_for_line(&self, text: &str, within: Duration) -> String {
                self.program.wait_for_line(text, within).await
            }
        }
    };
}

child_of!(ServerProcess);
child_of!(WorkerProcess);

#[derive(Debug)]
struct Program {
    child: Child,
    _folder: DataDir,
}

impl Program {
    fn start(
        binary: &str,
        name: &str,
        arguments: Vec<OsString>,
        variables: Vec<(String, String)>,
    ) -> Result<Self, ServiceError> {
        crate::use_ring();
        let folder = DataDir::new(binary);
        let child = Child::new(&format!("{binary} {name}"), &built(binary), arguments, folder.path());
        let child = child.with_variables(variables);
        child.launch()?;
        Ok(Self { child, _folder: folder })
    }

    async fn wait_for_line(&self, text: &str, within: Duration) -> String {
        let found = within_or_last(within, async || {
            self.child.output().lines().find(|line| line.contains(text)).map(str::to_owned)
        });
        match found.await {
            Ok(line) => line,
            Err(_) => panic!("no line with {text:?} within {within:?}\n{}", self.child.tail()),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.child.tail());
        }
    }
}

/// A binary of this workspace, from the same build as the running program.
fn built(binary: &str) -> PathBuf {
    let path = build_dir().join(binary);
    assert!(path.is_file(), "{} is not built; run: cargo build --workspace --all-targets", path.display());
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_flags_and_defaults_are_left_to_the_server() {
        let mut options =
            ServerOptions::new(vec!["http://a:1".into(), "http://b:2".into()], "/r", "mysql://d", "n");
        options.lease_ttl = Some(Duration::from_secs(3));
        options.arguments.push("--retention=1d".into());
        let listen = "127.0.0.1:7".parse().expect("valid");
        let text: Vec<_> =
            options.as_arguments(listen).iter().map(|a| a.to_string_lossy().into_owned()).collect();
        assert_eq!(
            text.join(" "),
            "--etcd-endpoints http://a:1,http://b:2 --key-root /r --db-url mysql://d --listen 127.0.0.1:7 \
             --node-name n --log-level debug --log-format json --lease-ttl 3000ms --retention=1d"
        );
    }
}
