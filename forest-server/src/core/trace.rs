//! Which trace a run belongs to. A function of the run, so that any leader, asked any number of times, comes to the
//! same: no id is drawn by lot.
//!
//! ```text
//!   fire ──▶ dispatch (attempt 1) ──▶ execute ...
//!                  └──▶ dispatch (attempt 2) ──▶ execute ...
//! ```

use forest_proto::{RunId, TraceParent};
use sha2::{Digest, Sha256};

/// What a run is given for its trace. `before`: the context that comes with it, from somebody's call or the attempt
/// before. `ratio`: which part of the traces this cluster keeps; `None`: it makes no spans, and hands on what comes.
pub(crate) fn context(run: &RunId, before: Option<TraceParent>, ratio: Option<f64>) -> Option<TraceParent> {
    let Some(ratio) = ratio else { return before };
    let TraceParent { trace_id, sampled, .. } = before.unwrap_or_else(|| begun(run, ratio));
    Some(TraceParent { trace_id, span_id: dispatch_span(run), sampled })
}

/// The context of a run that nobody gave one, with the span of its fire.
pub(crate) fn begun(run: &RunId, ratio: f64) -> TraceParent {
    let digest = digest("trace", &run.with_attempt(1));
    let part = |from: usize| digest[from..from + 8].iter().fold(0, |all, byte| (all << 8) | u64::from(*byte));
    let trace_id = (u128::from(part(0)) << 64) | u128::from(part(8));
    // A number from 0 to 1, below the ratio as often as it says.
    let lot = (part(16) >> 11) as f64 / (1_u64 << 53) as f64;
    TraceParent { trace_id: trace_id.max(1), span_id: fire_span(run), sampled: lot < ratio }
}

/// The span from a fire, or from somebody's call, to its first run.
pub(crate) fn fire_span(run: &RunId) -> u64 {
    span("fire", &run.with_attempt(1))
}

/// The span in which a run is created and given away.
pub(crate) fn dispatch_span(run: &RunId) -> u64 {
    span("dispatch", run)
}

/// The span in which what became of a run is brought into the history.
pub(crate) fn collect_span(run: &RunId) -> u64 {
    span("collect", run)
}

/// What comes before the dispatch of a run: its fire, or the dispatch of the attempt before.
pub(crate) fn before_dispatch(run: &RunId) -> u64 {
    match (run.attempt(), run.parent()) {
        (0 | 1, _) => fire_span(run),
        // The first attempt of a shard has the dispatch of the whole.
        (2, Some(whole)) => dispatch_span(&whole),
        (attempt, _) => dispatch_span(&run.with_attempt(attempt - 1)),
    }
}

fn span(what: &str, run: &RunId) -> u64 {
    let digest = digest(what, run);
    digest[..8].iter().fold(0, |all, byte| (all << 8) | u64::from(*byte)).max(1)
}

fn digest(what: &str, run: &RunId) -> [u8; 32] {
    Sha256::new().chain_update(what).chain_update([0]).chain_update(run.as_str()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(number: u32) -> RunId {
        format!("20270115080000{:03}-j{number}-1", number % 1000).parse().expect("a run id")
    }

    #[test]
    fn attempts_share_a_trace_and_follow_each_other() {
        let first = context(&run(1), None, Some(1.0)).expect("traced");
        let again = context(&run(1), None, Some(1.0)).expect("traced");
        assert_eq!(first, again, "any leader comes to the same");
        let second = run(1).with_attempt(2);
        let retried = context(&second, Some(first), Some(1.0)).expect("traced");
        assert_eq!(retried.trace_id, first.trace_id);
        assert_ne!(retried.span_id, first.span_id);
        assert_eq!(before_dispatch(&second), first.span_id);
        assert_eq!(before_dispatch(&run(1)), fire_span(&run(1)));
        // Also where the attempt before knew nothing of traces.
        assert_eq!(context(&second, None, Some(1.0)).map(|c| c.trace_id), Some(first.trace_id));
        assert_ne!(context(&run(2), None, Some(1.0)).map(|c| c.trace_id), Some(first.trace_id));
    }

    #[test]
    fn what_comes_from_outside_decides_trace_and_sampling() {
        let outside = TraceParent { trace_id: 7, span_id: 8, sampled: false };
        let inside = context(&run(1), Some(outside), Some(1.0)).expect("traced");
        assert_eq!((inside.trace_id, inside.sampled, inside.span_id), (7, false, dispatch_span(&run(1))));
        assert_eq!(
            context(&run(1), Some(outside), None),
            Some(outside),
            "without spans of ours it is handed on"
        );
        assert_eq!(context(&run(1), None, None), None);
    }

    #[test]
    fn the_ratio_is_kept() {
        let kept = |ratio| (0..4_000).filter(|number| begun(&run(*number), ratio).sampled).count();
        assert_eq!((kept(0.0), kept(1.0)), (0, 4_000));
        assert!((300..500).contains(&kept(0.1)), "{}", kept(0.1));
    }
}
