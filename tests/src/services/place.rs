//! Where children live: folders below the build folder, and ports on loopback.
//!
//! A shared service is never dropped, so its folder stays behind. Folders carry the process id of their
//! owner, and the first test process to come sweeps those whose owner is gone.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, Once, PoisonError};

/// A folder for one child, removed on drop.
#[derive(Debug)]
pub struct DataDir(tempfile::TempDir);

impl DataDir {
    /// A new folder below `target/test-data`.
    ///
    /// # Panics
    /// If the folder cannot be made: nothing can be tested then.
    pub fn new(what: &str) -> Self {
        static SWEPT: Once = Once::new();
        let root = data_root();
        std::fs::create_dir_all(&root).expect("the build folder is writable");
        SWEPT.call_once(|| sweep(&root));
        let prefix = format!("{}-{what}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(&root);
        Self(folder.expect("the build folder is writable"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// The folder of the build's binaries, such as `target/debug`: the one that this test binary came from.
///
/// # Panics
/// If the running program has no path.
pub fn build_dir() -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let folder = program.parent().expect("a program is in a folder");
    // Tests are in `deps` below it, the demo and the benchmark in it.
    match folder.file_name() {
        Some(name) if name == "deps" => folder.parent().expect("deps is in a folder").to_owned(),
        _ => folder.to_owned(),
    }
}

fn data_root() -> PathBuf {
    let build = build_dir();
    build.parent().unwrap_or(&build).join("test-data")
}

/// Removes what dead test processes left. Their children died with them.
fn sweep(root: &Path) {
    let Ok(folders) = std::fs::read_dir(root) else { return };
    for folder in folders.flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        let owner = name.split('-').next().and_then(|pid| pid.parse::<u32>().ok());
        let gone = owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
        if gone {
            // Another test process may be sweeping too.
            let _ = std::fs::remove_dir_all(folder.path());
        }
    }
}

/// A loopback address that nobody listens on, given out once per process.
///
/// Taken from below the range from which the kernel picks ports for outgoing connections: the port of a
/// server that is down for a moment must not be taken by a stranger.
///
/// # Panics
/// If hundreds of ports in a row are taken.
pub fn free_address() -> SocketAddr {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    for _ in 0..500 {
        let port = fastrand::u16(12_000..32_000);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if !given.contains(&port) && TcpListener::bind(address).is_ok() {
            given.insert(port);
            return address;
        }
    }
    panic!("no free port between 12000 and 32000");
}
