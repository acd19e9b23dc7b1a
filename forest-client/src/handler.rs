//! Handlers: any `async fn` of the right shape, made into one kind of object.
//!
//! Parameters go in and results come out as text; what is between is the handler's own. Nothing here
//! catches panics: whoever runs the returned future does.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;

use forest_proto::TargetName;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::context::JobContext;

/// What a run leaves behind: the text of its result, or why it failed.
pub(crate) type Verdict = Result<String, String>;

pub(crate) type BoxedHandler =
    Arc<dyn Fn(JobContext) -> Pin<Box<dyn Future<Output = Verdict> + Send>> + Send + Sync>;

/// The handlers of a worker by target.
pub(crate) type Handlers = Arc<BTreeMap<TargetName, BoxedHandler>>;

/// What can be registered with [`Builder::job`](crate::Builder::job):
/// `async fn(JobContext) -> Result<R, E>` and `async fn(JobContext, P) -> Result<R, E>`, or closures of
/// that shape.
///
/// * `P` is read from the run's parameters as JSON; no parameters at all read as `null`, so that `()` and
///   `Option<..>` accept them. Parameters that do not fit make the run fail without the handler being
///   called. For parameters that are not JSON take the first shape and [`JobContext::params`].
/// * `R` becomes the run's result: text as it is, `()` and `None` as no text, everything else as JSON. Of
///   a longer text the first 64 KiB are kept.
/// * `E` becomes the result of a failed run, in its `{:#}` form, which for `anyhow` is the whole chain.
///
/// A handler that panics fails its run with the panic's message.
///
/// ```
/// # use forest_client::{JobContext, Worker};
/// #[derive(serde::Deserialize)]
/// struct Refund { order: u64 }
///
/// async fn refund(_ctx: JobContext, refund: Refund) -> Result<String, std::num::ParseIntError> {
///     Ok(format!("order {} refunded", refund.order))
/// }
///
/// # fn main() -> Result<(), forest_client::Error> {
/// Worker::builder("trade").job("refund", refund).build()?;
/// # Ok(())
/// # }
/// ```
#[diagnostic::on_unimplemented(
    message = "this is not a handler",
    note = "a handler is `async fn(JobContext) -> Result<R, E>` or `async fn(JobContext, P) -> Result<R, E>`",
    note = "with `P: DeserializeOwned + Send + 'static`, `R: Serialize + Send`, `E: Display + Send`"
)]
pub trait Handler<Arguments>: Send + Sync + 'static {
    /// Starts one execution. Its answer is the text of the result, or of the failure.
    fn call(&self, ctx: JobContext) -> impl Future<Output = Result<String, String>> + Send + 'static;
}

impl<F, Fut, R, E> Handler<(JobContext,)> for F
where
    F: Fn(JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Serialize + Send,
    E: Display + Send,
{
    fn call(&self, ctx: JobContext) -> impl Future<Output = Verdict> + Send + 'static {
        let answer = self(ctx);
        async move { verdict(answer.await) }
    }
}

impl<F, Fut, P, R, E> Handler<(JobContext, P)> for F
where
    F: Fn(JobContext, P) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    P: DeserializeOwned + Send + 'static,
    R: Serialize + Send,
    E: Display + Send,
{
    fn call(&self, ctx: JobContext) -> impl Future<Output = Verdict> + Send + 'static {
        let answer = parse(&ctx).map(|params| self(ctx, params));
        async move {
            match answer {
                Ok(answer) => verdict(answer.await),
                Err(refusal) => Err(refusal),
            }
        }
    }
}

pub(crate) fn boxed<Arguments, H: Handler<Arguments>>(handler: H) -> BoxedHandler {
    Arc::new(move |ctx| Box::pin(handler.call(ctx)))
}

fn parse<P: DeserializeOwned>(ctx: &JobContext) -> Result<P, String> {
    let text = match ctx.params().trim() {
        "" => "null",
        text => text,
    };
    // The parameters themselves stay out of the message: they may hold what does not belong into a history.
    serde_json::from_str(text)
        .map_err(|e| format!("the parameters do not fit target `{}`: {e}", ctx.target()))
}

fn verdict<R: Serialize, E: Display>(answer: Result<R, E>) -> Verdict {
    let result = answer.map_err(|e| format!("{e:#}"))?;
    let json = serde_json::to_string(&result)
        .map_err(|e| format!("the handler succeeded, but its result cannot be written as JSON: {e}"))?;
    match json.as_bytes() {
        b"null" => Ok(String::new()),
        [b'"', ..] => Ok(serde_json::from_str(&json).unwrap_or(json)),
        _ => Ok(json),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use forest_proto::record::{Snapshot, decode};

    use super::*;
    use crate::shared::tests::nothing_shared;
    use crate::stop::Stop;

    pub(crate) fn snapshot(run: &str, target: &str, params: &str) -> Snapshot {
        let document = serde_json::json!({
            "id": run, "jobId": "j1", "name": "a job", "group": "trade", "target": target, "params": params,
            "scheduled_at": "2026-11-18T11:06:40Z", "created_at": "2026-11-18T11:06:40.1Z",
        });
        decode(document.to_string().as_bytes()).unwrap()
    }

    async fn run<A, H: Handler<A>>(handler: H, params: &str) -> Verdict {
        let snapshot = snapshot("20261118110640000-j1-1", "pay", params);
        boxed(handler)(JobContext::new(snapshot, 7, Stop::default(), nothing_shared())).await
    }

    #[derive(serde::Deserialize)]
    struct Pay {
        cents: u32,
    }

    async fn pay(ctx: JobContext, pay: Pay) -> Result<String, String> {
        Ok(format!("{} cents, token {}", pay.cents, ctx.fencing_token()))
    }

    #[tokio::test]
    async fn parameters_arrive_typed() {
        assert_eq!(run(pay, r#" {"cents": 5, "more": 1} "#).await, Ok("5 cents, token 7".into()));
    }

    #[tokio::test]
    async fn parameters_that_do_not_fit_fail_the_run_without_showing_them() {
        for params in [r#"{"cents":"secret"}"#, "", "{", "plain text", "[]"] {
            let refusal = run(pay, params).await.unwrap_err();
            assert!(refusal.contains("`pay`") && refusal.contains("line 1"), "{params:?}: {refusal}");
        }
    }

    #[tokio::test]
    async fn no_parameters_are_null() {
        async fn none(_: JobContext, (): ()) -> Result<(), String> {
            Ok(())
        }
        async fn maybe(_: JobContext, pay: Option<Pay>) -> Result<bool, String> {
            Ok(pay.is_some())
        }
        assert_eq!(run(none, "").await, Ok(String::new()));
        assert_eq!(run(maybe, " ").await, Ok("false".into()));
        assert_eq!(run(maybe, r#"{"cents":1}"#).await, Ok("true".into()));
    }

    #[tokio::test]
    async fn results_are_text_as_it_is_and_json_otherwise() {
        async fn json(_: JobContext) -> Result<Vec<u8>, String> {
            Ok(vec![1, 2])
        }
        assert_eq!(run(json, "ignored").await, Ok("[1,2]".into()));
        assert_eq!(
            run(async |ctx: JobContext| Ok::<_, String>(ctx.params().to_owned()), "as it is").await,
            Ok("as it is".into())
        );
        // A JSON object has only text for keys.
        let refusal = run(|_: JobContext| async { Ok::<_, String>(HashMap::from([((1, 2), 3)])) }, "").await;
        assert!(refusal.unwrap_err().contains("cannot be written"));
    }

    #[tokio::test]
    async fn an_error_is_told_with_its_causes() {
        async fn fails(_: JobContext) -> anyhow::Result<()> {
            Err(anyhow::anyhow!("connection refused").context("cannot reach the bank"))
        }
        assert_eq!(run(fails, "").await, Err("cannot reach the bank: connection refused".into()));
    }
}
