//! Parameters and results with types of one's own.
//!
//! A job with target `transfer` and the parameters `{"from": "a", "to": "b", "cents": 1250}` leaves
//! `{"balance":8750,"token":..}` as its result; parameters of another shape fail the run before the handler
//! is called, with a message that says where they are wrong.
//!
//! `cargo run -p forest-client --example typed_params`

use forest_client::{JobContext, Worker};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Transfer {
    from: String,
    to: String,
    cents: u64,
}

#[derive(Serialize)]
struct Receipt {
    balance: u64,
    token: i64,
}

async fn transfer(ctx: JobContext, transfer: Transfer) -> anyhow::Result<Receipt> {
    let Transfer { from, to, cents } = transfer;
    println!("attempt {} of {}: {cents} from {from} to {to}", ctx.attempt(), ctx.max_attempts());
    let balance = 10_000_u64.checked_sub(cents).ok_or_else(|| anyhow::anyhow!("{from} has too little"))?;
    // A bank that remembers the largest token it has seen can refuse a transfer that comes too late.
    Ok(Receipt { balance, token: ctx.fencing_token() })
}

/// Without parameters, or with a limit.
async fn sweep(_ctx: JobContext, limit: Option<u32>) -> Result<u32, std::convert::Infallible> {
    Ok(limit.unwrap_or(100))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let worker = Worker::builder("examples").job("transfer", transfer).job("sweep", sweep);
    worker.label("zone", "a").capacity(8).build()?.run().await?;
    Ok(())
}
