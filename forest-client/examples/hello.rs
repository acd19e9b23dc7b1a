//! The smallest worker: one handler, no parameters.
//!
//! Start etcd and a server, create a job with group `examples` and target `hello`, then:
//! `cargo run -p forest-client --example hello`

use forest_client::{JobContext, Worker};

async fn hello(ctx: JobContext) -> Result<String, std::io::Error> {
    println!("run {} of {}, due at {}", ctx.run_id(), ctx.job_name(), ctx.scheduled_at());
    Ok("hello".into())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    Worker::builder("examples").job("hello", hello).build()?.run().await?;
    Ok(())
}
