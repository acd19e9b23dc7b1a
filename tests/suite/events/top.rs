//! `forest-cli top` on a real terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forest_tests::cluster::Cluster;
use forest_tests::services::build_dir;
use forest_tests::wait::eventually;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

use crate::stage::{SOON, Stage};

/// Switches to a screen of its own, and back.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// A terminal with `top` on it.
struct Terminal {
    child: Child,
    keyboard: File,
    /// Ours, beside the program's: its settings outlive the program.
    line: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn start(server: &str, arguments: &[&str]) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("granted");
        let name = ptsname(&ours, Vec::new()).expect("a name");
        let line = || {
            let file = File::options().read(true).write(true).open(name.to_str().expect("text"));
            OwnedFd::from(file.expect("the other end"))
        };
        let size = Winsize { ws_row: 30, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).expect("a size");
        let child = Command::new(build_dir().join("forest-cli"))
            .args(arguments)
            .env("FOREST_SERVER", server)
            .env("TERM", "xterm-256color")
            .stdin(Stdio::from(line()))
            .stdout(Stdio::from(line()))
            .stderr(Stdio::from(line()))
            .spawn()
            .expect("forest-cli is built");
        let keyboard = File::from(ours);
        let (mut screen, shown) = (keyboard.try_clone().expect("a copy"), Arc::new(Mutex::new(Vec::new())));
        let sink = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&bytes[..count]);
            }
        });
        Self { child, keyboard, line: line(), shown }
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    async fn wait_for(&self, text: &str) {
        eventually("the screen shows it", SOON, async || {
            let shown = self.shown();
            if shown.contains(text) { Ok(()) } else { Err(format!("no {text:?} in {shown:?}")) }
        })
        .await;
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("typed");
    }

    /// Whether lines are echoed and edited, as before a program takes the terminal.
    fn is_cooked(&self) -> bool {
        tcgetattr(&self.line).expect("settings").local_modes.contains(LocalModes::ICANON | LocalModes::ECHO)
    }

    /// Its exit code, once the terminal is given back.
    async fn end(mut self) -> Option<i32> {
        let status = eventually("it ends", SOON, async || self.child.try_wait().expect("a child")).await;
        self.wait_for(LEAVE).await;
        assert!(self.is_cooked(), "the terminal is as it was");
        status.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already, unless the test fails.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn top_shows_what_happens_and_gives_the_terminal_back() {
    let Some(stage) = Stage::set(Cluster::builder()).await else { return };
    let _worker = stage.worker("worker", &[]).await;
    let server = format!("http://{}", stage.cluster.nodes()[0].server.address());
    let mut top = Terminal::start(&server, &["top", "--group", &stage.group]);
    for text in [ENTER, "Running 0", stage.cluster.nodes()[0].server.name(), "worker"] {
        top.wait_for(text).await;
    }
    assert!(!top.is_cooked());
    // Without a key: the events bring it.
    let job = stage.job(json!({"name": "comes-later", "target": "fail"})).await;
    stage.run(&job).await;
    top.wait_for("failed").await;
    top.wait_for("comes-later").await;
    top.press("\t");
    top.press("s");
    // Only what changes is drawn.
    top.wait_for("count").await;
    top.press("q");
    assert_eq!(top.end().await, Some(0));

    let top = Terminal::start(&server, &["top"]);
    top.wait_for("Running 0").await;
    let pid = rustix::process::Pid::from_child(&top.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("told");
    assert_eq!(top.end().await, Some(0));

    let mut top = Terminal::start(&server, &["top"]);
    top.wait_for("Running 0").await;
    top.press("\x03");
    assert_eq!(top.end().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn top_refuses_what_is_no_terminal() {
    let output = tokio::process::Command::new(build_dir().join("forest-cli"))
        .args(["top", "--server", "127.0.0.1:1"])
        .stdin(Stdio::null())
        .output();
    let output =
        tokio::time::timeout(Duration::from_secs(60), output).await.expect("it ends").expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
    assert!(said.contains("needs a terminal") && said.contains("events -f"), "{said}");
}
