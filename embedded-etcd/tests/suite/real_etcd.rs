//! A real etcd on a free port, alone and empty, which ends with its handle.
//!
//! `FOREST_TEST_ETCD` names another etcd than the installed one. Where there is none, a test says so and is skipped;
//! with `CI` set it fails.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::wire::Wire;

const READY_WITHIN: Duration = Duration::from_secs(30);
/// A port may be taken between being chosen and being listened on.
const ATTEMPTS: usize = 3;

pub(crate) struct RealEtcd {
    child: Child,
    pub(crate) wire: Wire,
    _folder: TempDir,
}

/// Where etcd is, or why the test cannot run.
pub(crate) fn program() -> Option<PathBuf> {
    let chosen = std::env::var_os("FOREST_TEST_ETCD").map(PathBuf::from);
    let program = chosen.unwrap_or_else(|| "/usr/bin/etcd".into());
    if program.is_file() {
        return Some(program);
    }
    let is_ci = std::env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    assert!(!is_ci, "there is no etcd at {}", program.display());
    eprintln!("SKIPPED: there is no etcd at {} (set FOREST_TEST_ETCD)", program.display());
    None
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl RealEtcd {
    pub(crate) async fn start(program: &Path) -> Self {
        for _ in 0..ATTEMPTS {
            if let Some(etcd) = Self::try_start(program).await {
                return etcd;
            }
        }
        panic!("etcd does not start");
    }

    async fn try_start(program: &Path) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (address, peer) = (free_address(), format!("http://{}", free_address()));
        let client = format!("http://{address}");
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(folder.path().join("data")).arg("--unsafe-no-fsync");
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args([
            "--initial-cluster",
            &format!("default={peer}"),
            "--logger",
            "zap",
            "--log-level",
            "error",
        ]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let wire = Wire::lazy(address);
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            if wire.status().await.is_ok_and(|status| status.leader != 0) {
                return Some(Self { child, wire, _folder: folder });
            }
            sleep(Duration::from_millis(10)).await;
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
