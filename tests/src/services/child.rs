//! A child process that dies with the test process, can be frozen, killed and started again, and whose
//! output is kept.
//!
//! The kernel kills the child when the *thread* that started it ends (`setpriv --pdeathsig`), and tests run
//! on threads that end early. So one thread that lives as long as the process starts all children.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::{ServiceError, program};
use crate::wait::within_or_last;

/// How many lines of output a failing test shows of each child.
const SHOWN_LINES: usize = 60;

/// A program with its arguments, running or not.
#[derive(Debug)]
pub struct Child {
    what: String,
    program: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(String, String)>,
    folder: PathBuf,
    running: Mutex<Option<std::process::Child>>,
}

impl Child {
    /// A program that is not yet running. Its folder becomes the working directory and gets the output.
    pub fn new(what: &str, program: &Path, arguments: Vec<OsString>, folder: &Path) -> Self {
        Self {
            what: what.into(),
            program: program.into(),
            arguments,
            variables: Vec::new(),
            folder: folder.into(),
            running: Mutex::new(None),
        }
    }

    /// Environment variables beside those of the test process.
    #[must_use]
    pub fn with_variables(mut self, variables: Vec<(String, String)>) -> Self {
        self.variables = variables;
        self
    }

    /// Starts it, also again after it has ended. Output is appended.
    ///
    /// # Errors
    /// If `setpriv` is missing or the program cannot be started.
    pub fn launch(&self) -> Result<(), ServiceError> {
        let failed = |e: io::Error| ServiceError::failed(&self.what, e);
        let output = OpenOptions::new().create(true).append(true).open(self.output_path()).map_err(failed)?;
        let mut command = Command::new(program("setpriv", "FOREST_TEST_SETPRIV", "util-linux")?);
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.program).args(&self.arguments);
        command.envs(self.variables.iter().cloned()).current_dir(&self.folder).stdin(Stdio::null());
        command.stdout(output.try_clone().map_err(failed)?).stderr(output);
        let mut running = self.running();
        assert!(running.is_none(), "{} is running already", self.what);
        *running = Some(spawn(command).map_err(failed)?);
        Ok(())
    }

    fn running(&self) -> MutexGuard<'_, Option<std::process::Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process id while it runs, or until its end has been noticed.
    pub fn pid(&self) -> Option<u32> {
        self.running().as_ref().map(std::process::Child::id)
    }

    /// Sends a signal; to a child that has ended, nothing.
    pub fn signal(&self, signal: Signal) {
        // Not reaped while the lock is held, so that the number cannot belong to another process.
        let running = self.running();
        if let Some(pid) = running.as_ref().and_then(|c| Pid::from_raw(c.id().cast_signed())) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Freezes it, and returns when all of its threads stand still.
    ///
    /// # Panics
    /// If it does not stop.
    pub async fn stop(&self) {
        self.signal(Signal::STOP);
        self.wait_for_threads("frozen", |state| state == 'T').await;
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it does not.
    pub async fn cont(&self) {
        self.signal(Signal::CONT);
        self.wait_for_threads("going on", |state| state != 'T').await;
    }

    async fn wait_for_threads(&self, what: &str, wanted: impl Fn(char) -> bool) {
        let Some(pid) = self.pid() else { panic!("{} is not running", self.what) };
        let looked = within_or_last(Duration::from_secs(10), async || {
            let states = thread_states(pid);
            if !states.is_empty() && states.iter().all(|state| wanted(*state)) {
                Ok(())
            } else {
                Err(format!("thread states {states:?}"))
            }
        });
        if let Err(seen) = looked.await {
            panic!("{} is not {what}: {seen}", self.what);
        }
    }

    /// Kills it without a warning and waits until it is gone.
    pub fn kill(&self) {
        let child = self.running().take();
        if let Some(mut child) = child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// How it ended, if it has.
    pub fn exited(&self) -> Option<ExitStatus> {
        let mut running = self.running();
        let status = running.as_mut()?.try_wait().ok()??;
        *running = None;
        Some(status)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it is still running after `within`, or was not running.
    pub async fn wait_exit(&self, within: Duration) -> ExitStatus {
        assert!(self.pid().is_some(), "{} is not running", self.what);
        match within_or_last(within, async || self.exited()).await {
            Ok(status) => status,
            Err(_) => panic!("{} did not end within {within:?}\n{}", self.what, self.tail()),
        }
    }

    fn output_path(&self) -> PathBuf {
        self.folder.join("output.log")
    }

    /// All it has written to its standard output and error, over all starts.
    pub fn output(&self) -> String {
        let bytes = std::fs::read(self.output_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of its output, under a heading.
    pub fn tail(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        format!("--- {} (last {} of {} lines)\n{}\n", self.what, shown.len(), lines.len(), shown.join("\n"))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The state letters of a process's threads; none if it is gone.
fn thread_states(pid: u32) -> Vec<char> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok())
        // The state follows the name, which is in parentheses and may contain anything.
        .filter_map(|stat| stat.rsplit_once(')')?.1.trim_start().chars().next())
        .collect()
}

type Order = (Command, mpsc::SyncSender<io::Result<std::process::Child>>);

fn spawn(command: Command) -> io::Result<std::process::Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in inbox {
                let _ = answer.send(command.spawn());
            }
        });
        orders
    });
    let (answer, spawned) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the thread that starts children has ended");
    spawner.send((command, answer)).map_err(|_| gone())?;
    spawned.recv().map_err(|_| gone())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::DataDir;

    fn shell(script: &str, folder: &DataDir) -> Child {
        let child =
            Child::new("shell", Path::new("/bin/sh"), vec!["-c".into(), script.into()], folder.path());
        child.launch().expect("a shell starts");
        child
    }

    #[tokio::test]
    async fn a_child_is_frozen_and_goes_on() {
        let folder = DataDir::new("child");
        let child = shell("while :; do echo tick; sleep 0.01; done", &folder);
        let ticks = || child.output().lines().count();
        crate::wait::eventually("a tick", Duration::from_secs(10), async || ticks() > 0).await;
        child.stop().await;
        let before = ticks();
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(ticks() <= before + 1, "a frozen child writes nothing");
        child.cont().await;
        crate::wait::eventually("more ticks", Duration::from_secs(10), async || ticks() > before + 1).await;
    }

    #[tokio::test]
    async fn a_child_outlives_the_thread_that_asked_for_it_and_its_end_is_told() {
        let folder = DataDir::new("child");
        let child = std::thread::scope(|scope| {
            scope.spawn(|| shell("sleep 0.3; echo done; exit 7", &folder)).join().expect("no panic")
        });
        assert_eq!(child.wait_exit(Duration::from_secs(10)).await.code(), Some(7));
        assert!(child.tail().contains("done"));
    }

    #[tokio::test]
    async fn the_kernel_kills_children_of_a_dead_parent() {
        let folder = DataDir::new("child");
        // The inner setpriv is the child of a shell that gets killed, as a test process may be.
        let child = shell("setpriv --pdeathsig KILL -- sleep 60 & echo $!; wait", &folder);
        let pid = crate::wait::eventually("the pid", Duration::from_secs(10), async || {
            child.output().lines().next().and_then(|line| line.parse::<u32>().ok())
        })
        .await;
        let name = || std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        crate::wait::eventually("sleep runs", Duration::from_secs(10), async || name() == "sleep\n").await;
        child.kill();
        crate::wait::eventually("it is gone", Duration::from_secs(10), async || name() != "sleep\n").await;
    }
}
