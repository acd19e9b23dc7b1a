#![allow(clippy::unwrap_used)]

use tokio::time::Instant;

use super::*;
use crate::clock::TokioClock;

const SECOND: Duration = Duration::from_secs(1);
const LEASE: Lease = Lease { id: 7, ttl: Duration::from_secs(5) };

/// A session that talks to nobody, with a lease that was sent for just now.
fn session() -> (Session, SessionHandle) {
    let config = EtcdConfig::new(["127.0.0.1:1"]);
    let (session, handle) = Session::new(&config, LEASE.ttl, TokioClock::shared()).unwrap();
    let now = session.clock.boot();
    session.state.send_replace(Some(Held { lease: LEASE, deadline: deadline(now, LEASE.ttl) }));
    (session, handle)
}

#[test]
fn the_margin_is_a_second_but_at_most_a_quarter_of_the_ttl() {
    for (ttl, trusted) in [(5_000, 4_000), (30_000, 29_000), (4_000, 3_000), (2_000, 1_500), (1_000, 750)] {
        let ttl = Duration::from_millis(ttl);
        assert_eq!(deadline(10 * SECOND, ttl), 10 * SECOND + Duration::from_millis(trusted));
    }
}

#[test]
fn a_ttl_is_asked_for_in_whole_seconds() {
    assert_eq!(whole_seconds(Duration::ZERO), SECOND);
    assert_eq!(whole_seconds(Duration::from_millis(4_001)), 5 * SECOND);
    assert_eq!(whole_seconds(5 * SECOND), 5 * SECOND);
    assert_eq!([granted(-1), granted(0), granted(2)], [None, None, Some(2 * SECOND)]);
}

#[tokio::test(start_paused = true)]
async fn trust_ends_at_the_deadline_even_if_the_session_hangs() {
    let (_session, handle) = session();
    tokio::time::advance(Duration::from_millis(3_999)).await;
    assert!(handle.is_trusted(7) && !handle.is_trusted(8));
    assert_eq!(handle.current(), Some(LEASE));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!handle.is_trusted(7));
    assert_eq!(handle.current(), None);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_session_is_noticed_by_those_who_wait_for_the_loss() {
    let (_session, mut handle) = session();
    let begin = Instant::now();
    handle.lost(7).await;
    assert_eq!(begin.elapsed(), 4 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_vanished_is_trusted_until_the_deadline_and_no_longer() {
    let (session, mut handle) = session();
    drop(session);
    let begin = Instant::now();
    assert!(handle.is_trusted(7));
    handle.lost(7).await;
    assert_eq!(begin.elapsed(), 4 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_published_loss_is_noticed_at_once() {
    let (session, mut handle) = session();
    let begin = Instant::now();
    let (_, ()) = tokio::join!(handle.lost(7), async {
        tokio::time::sleep(SECOND).await;
        session.state.send_replace(None);
    });
    assert_eq!(begin.elapsed(), SECOND);
    handle.lost(7).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_from_the_moment_its_request_was_sent() {
    let (session, mut handle) = session();
    tokio::time::advance(SECOND).await;
    let sent = session.clock.boot();
    tokio::time::advance(SECOND).await;
    session.extend(LEASE, sent, 5).unwrap();
    assert_eq!(handle.deadline(7), Some(5 * SECOND));
    assert_eq!(handle.deadline(8), None);
    let begin = Instant::now();
    handle.lost(7).await;
    assert_eq!(begin.elapsed(), 3 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_the_deadline_does_not_bring_the_lease_back() {
    let (session, handle) = session();
    let sent = session.clock.boot();
    tokio::time::advance(4 * SECOND).await;
    assert_eq!(session.extend(LEASE, sent + 3 * SECOND, 5), Err(Ending::Overdue));
    assert!(!handle.is_trusted(7));
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_time_left_means_the_lease_is_gone() {
    let (session, _handle) = session();
    assert_eq!(session.extend(LEASE, session.clock.boot(), 0), Err(Ending::Gone));
}

#[tokio::test(start_paused = true)]
async fn a_delayed_older_answer_does_not_move_the_deadline_back() {
    let (session, handle) = session();
    session.extend(LEASE, 2 * SECOND, 5).unwrap();
    session.extend(LEASE, SECOND, 5).unwrap();
    assert_eq!(handle.deadline(7), Some(6 * SECOND));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_lease_ends_with_the_first_one_that_can_be_trusted() {
    let (session, mut handle) = session();
    session.state.send_replace(None);
    let (lease, ()) = tokio::join!(handle.opened(), async {
        tokio::time::sleep(SECOND).await;
        session.state.send_replace(Some(Held { lease: LEASE, deadline: SECOND }));
        tokio::time::sleep(SECOND).await;
        session.state.send_replace(Some(Held { lease: Lease { id: 9, ..LEASE }, deadline: 9 * SECOND }));
    });
    assert_eq!(lease.id, 9);
}
