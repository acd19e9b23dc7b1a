//! What the operating system and etcd say about a measurement: processor time and memory of the
//! processes, and etcd's own count of the keys it wrote.

use std::fs;
use std::net::SocketAddr;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Linux counts processor time in hundredths of a second.
const TICKS: f64 = 100.0;

/// Processes whose processor time is to be told apart.
#[derive(Debug, Default)]
pub(crate) struct Processes(Vec<(&'static str, u32)>);

impl Processes {
    pub(crate) fn add(&mut self, what: &'static str, pid: Option<u32>) {
        self.0.extend(pid.map(|pid| (what, pid)));
    }

    /// Seconds of processor time so far.
    pub(crate) fn seconds(&self) -> Vec<(&'static str, f64)> {
        let mut sums: Vec<(&'static str, f64)> = Vec::new();
        for (what, pid) in &self.0 {
            let seconds = processor_seconds(*pid).unwrap_or(0.0);
            match sums.iter_mut().find(|(known, _)| known == what) {
                Some((_, sum)) => *sum += seconds,
                None => sums.push((what, seconds)),
            }
        }
        sums
    }

    /// What has been used since, as text.
    pub(crate) fn used_since(&self, before: &[(&'static str, f64)]) -> String {
        let used = self.seconds().into_iter().zip(before).map(|((what, now), (_, then))| {
            let seconds = now - then;
            format!("{what} {seconds:.1}")
        });
        format!("CPU s: {}", used.collect::<Vec<_>>().join(", "))
    }
}

fn processor_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the parenthesis may contain anything. User and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS)
}

/// The process that was started with this text among its arguments.
pub(crate) fn pid_with_argument(text: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == text.as_bytes())
    })
}

/// Bytes of memory that a process holds for itself: what is read from files is left out.
pub(crate) fn own_memory(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")).context("no RssAnon in /proc")?;
    Ok(kib.trim().parse::<f64>()? * 1024.0)
}

/// What etcd has done since it was started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EtcdCounters {
    pub(crate) puts: f64,
    pub(crate) deletes: f64,
    pub(crate) requests: f64,
    pub(crate) fsyncs: f64,
    pub(crate) fsync_seconds: f64,
    pub(crate) commits: f64,
    pub(crate) commit_seconds: f64,
}

impl EtcdCounters {
    pub(crate) async fn read(address: SocketAddr) -> anyhow::Result<Self> {
        let text = metrics(address).await.context("etcd's metrics")?;
        let sum = |name: &str| -> f64 {
            let lines = text.lines().filter_map(|line| line.strip_prefix(name));
            let values = lines.filter(|rest| rest.starts_with([' ', '{']));
            values.filter_map(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
        };
        Ok(Self {
            puts: sum("etcd_mvcc_put_total"),
            deletes: sum("etcd_mvcc_delete_total"),
            requests: sum("etcd_server_proposals_committed_total"),
            fsyncs: sum("etcd_disk_wal_fsync_duration_seconds_count"),
            fsync_seconds: sum("etcd_disk_wal_fsync_duration_seconds_sum"),
            commits: sum("etcd_disk_backend_commit_duration_seconds_count"),
            commit_seconds: sum("etcd_disk_backend_commit_duration_seconds_sum"),
        })
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            puts: self.puts - before.puts,
            deletes: self.deletes - before.deletes,
            requests: self.requests - before.requests,
            fsyncs: self.fsyncs - before.fsyncs,
            fsync_seconds: self.fsync_seconds - before.fsync_seconds,
            commits: self.commits - before.commits,
            commit_seconds: self.commit_seconds - before.commit_seconds,
        }
    }

    pub(crate) fn mutations(&self) -> f64 {
        self.puts + self.deletes
    }

    pub(crate) fn text(&self) -> String {
        format!(
            "etcd: {:.0} puts, {:.0} deletes in {:.0} log entries, {:.1} keys each; {:.0} fsyncs of {:.1} ms, \
             {:.0} backend commits of {:.1} ms",
            self.puts,
            self.deletes,
            self.requests,
            self.mutations() / self.requests.max(1.0),
            self.fsyncs,
            self.fsync_seconds * 1_000.0 / self.fsyncs.max(1.0),
            self.commits,
            self.commit_seconds * 1_000.0 / self.commits.max(1.0),
        )
    }
}

async fn metrics(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    // Version 1.0: the end of the answer is the end of the stream.
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
