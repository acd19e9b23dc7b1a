//! A long handler that stops when it is asked to, and a worker that gives it time.
//!
//! Press Ctrl-C (or send SIGTERM) while a run of target `count` is under way: the worker takes nothing new
//! and gives the handler 10 s. Then it asks it to stop; the handler says how far it came and returns. A
//! second Ctrl-C ends the process at once, and the server declares the run lost.
//!
//! `cargo run -p forest-client --example graceful_drain`

use std::time::Duration;

use forest_client::{JobContext, Worker};

async fn count(ctx: JobContext, seconds: Option<u32>) -> anyhow::Result<String> {
    let seconds = seconds.unwrap_or(60);
    for second in 1..=seconds {
        tokio::select! {
            () = ctx.cancelled() => anyhow::bail!("stopped at {second} of {seconds}: {:?}", ctx.stop_reason()),
            () = tokio::time::sleep(Duration::from_secs(1)) => println!("{}: {second}", ctx.run_id()),
        }
    }
    Ok(format!("counted to {seconds}"))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let worker = Worker::builder("examples")
        .job("count", count)
        .drain_grace(Duration::from_secs(10))
        .kill_grace(Duration::from_secs(2))
        .build()?;
    worker.run().await?;
    println!("all runs have ended and their results are written");
    Ok(())
}
