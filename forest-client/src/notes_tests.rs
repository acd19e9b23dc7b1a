//! Notes without etcd: what is heard, by whom, and until when.

use forest_proto::record::{Execution, Outcome as Ended};
use forest_proto::time::Instant as Wall;

use super::*;
use crate::handler::tests::snapshot;

fn notes() -> (Notes, mpsc::UnboundedReceiver<RunId>) {
    let (first, asked) = mpsc::unbounded_channel();
    (Notes::new("20261118110640000-j1-1".parse().expect("a run"), first), asked)
}

fn at(percent: u8) -> Progress {
    Progress { percent, text: String::new(), at: Wall::from_ms(1_795_000_000_000) }
}

#[tokio::test]
async fn the_latest_word_counts_and_one_writer_is_asked_for() {
    let (notes, mut asked) = notes();
    notes.progress(at(1));
    let early = notes.checkpoint("one".into());
    notes.progress(at(2));
    let late = notes.checkpoint("two".into());
    assert!(asked.try_recv().is_ok() && asked.try_recv().is_err());
    let said = notes.next().await.expect("news");
    assert_eq!((said.progress, said.checkpoint.as_deref()), (Some(at(2)), Some("two")));
    said.waiting.into_iter().for_each(|waiting| drop(waiting.send(Ok(()))));
    assert_eq!((early.await, late.await), (Ok(Ok(())), Ok(Ok(()))));
    let silence = tokio::time::timeout(Duration::from_millis(20), notes.next()).await;
    assert!(silence.is_err(), "nothing is said twice");
}

#[tokio::test]
async fn after_the_end_nothing_is_heard_and_nobody_waits() {
    let (notes, _asked) = notes();
    let early = notes.checkpoint("one".into());
    notes.written(7);
    let told = notes.close();
    assert_eq!(told, Told { progress: None, checkpoint: Some("one".into()), revision: Some(7) });
    assert!(early.await.is_err() && notes.checkpoint("two".into()).await.is_err());
    notes.progress(at(3));
    assert!(notes.next().await.is_none());
    assert_eq!(notes.close(), Told::default());
}

#[tokio::test]
async fn a_checkpoint_that_is_too_long_leaves_the_one_before_it() {
    let (notes, _asked) = notes();
    let _one = notes.checkpoint("x".repeat(MAX_CHECKPOINT));
    let refused = notes.checkpoint("x".repeat(MAX_CHECKPOINT + 1)).await;
    assert_eq!(refused, Ok(Err(CheckpointError::TooLarge { bytes: MAX_CHECKPOINT + 1 })));
    assert_eq!(notes.close().checkpoint.map(|kept| kept.len()), Some(MAX_CHECKPOINT));
}

#[test]
fn only_a_running_record_of_the_same_claim_is_ours() {
    let at = Wall::from_ms(1_795_000_000_000);
    let mut execution = Execution::claimed(snapshot("20261118110640000-j1-1", "pay", ""), at);
    let found = |execution: &Execution| {
        let (key, value) = ("/k".to_owned(), encode(execution));
        KeyValue { key, value, create_revision: 5, mod_revision: 6, version: 2, lease: 0 }
    };
    assert!(is_ours(&found(&execution), 5) && !is_ours(&found(&execution), 4));
    execution.finish(Ended::Lost, String::new(), at, 1);
    assert!(!is_ours(&found(&execution), 5));
}
