use tokio::time::{Instant, sleep, timeout};

use super::*;

async fn acquire(member: &Member) -> Lock {
    member.shared.lock("ledger").limit(60 * SECOND).acquire().await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn one_holds_it_and_the_other_gets_it_when_it_is_given_back() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let first = acquire(&a).await;
    assert!(first.is_held());
    assert!(b.shared.lock("ledger").try_acquire().await.unwrap().is_none());
    assert_eq!(b.shared.holder("ledger").await.unwrap().unwrap().fencing_token, first.fencing_token());
    let token = first.fencing_token();
    let begin = Instant::now();
    let (second, ()) = tokio::join!(acquire(&b), async {
        sleep(2 * SECOND).await;
        first.release().await.unwrap();
    });
    assert!(second.fencing_token() > token && second.is_held());
    assert!(begin.elapsed() < 2 * SECOND + SECOND / 2, "{:?}", begin.elapsed());
    second.release().await.unwrap();
    assert_eq!(a.shared.holder("ledger").await.unwrap(), None);
    assert!(a.shared.lock("ledger").try_acquire().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn groups_of_waiters_are_served_in_the_order_of_arrival() {
    let world = World::new();
    let holder = world.member().await;
    let lock = acquire(&holder).await;
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut waiting = Tasks::new();
    for number in 0..6 {
        let (member, order) = (world.member().await, Arc::clone(&order));
        waiting.spawn(async move {
            let lock = acquire(&member).await;
            order.lock().unwrap().push((number, lock.fencing_token()));
            sleep(SECOND).await;
            lock.release().await.unwrap();
        });
        sleep(SECOND).await;
    }
    assert!(order.lock().unwrap().is_empty());
    lock.release().await.unwrap();
    while let Some(ended) = waiting.join_next().await {
        ended.unwrap();
    }
    let order = order.lock().unwrap().clone();
    assert_eq!(order.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert!(order.is_sorted_by_key(|(_, token)| *token), "{order:?}");
}

#[tokio::test(start_paused = true)]
async fn at_its_limit_a_lock_ends_for_its_holder_first_and_then_for_the_others() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let begin = Instant::now();
    let stuck = a.shared.lock("ledger").limit(10 * SECOND).acquire().await.unwrap();
    let state = stuck.guarded().state();
    state.put("total", "1").await.unwrap();
    let (next, ()) = tokio::join!(acquire(&b), async {
        stuck.lost().await;
        assert_eq!(begin.elapsed(), 10 * SECOND);
        assert!(!stuck.is_held() && b.shared.holder("ledger").await.unwrap().is_some());
    });
    let waited = begin.elapsed();
    assert!(waited >= 11 * SECOND && waited <= 13 * SECOND, "{waited:?}");
    let late = state.put("total", "2").await.unwrap_err();
    assert_eq!(late, SharedError::NotHeld { what: "lock ledger".into() });
    let late = stuck.guarded().queue("mail").unwrap().push("x").await.unwrap_err();
    assert_eq!(late, SharedError::NotHeld { what: "lock ledger".into() });
    next.guarded().state().put("total", "3").await.unwrap();
    assert_eq!(b.shared.state().get("total").await.unwrap().unwrap().value, b"3");
    assert!(matches!(stuck.release().await, Err(SharedError::NotHeld { .. })));
    assert!(
        next.is_held() && b.shared.holder("ledger").await.unwrap().is_some(),
        "the next one's is untouched"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lock_ends_with_its_holders_lease_long_before_the_limit() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let lock = acquire(&a).await;
    let state = lock.guarded().state();
    let begin = Instant::now();
    let Member { _running: tasks, .. } = a;
    drop(tasks);
    let next = acquire(&b).await;
    assert!(begin.elapsed() <= TTL + SECOND, "{:?}", begin.elapsed());
    assert!(!lock.is_held() && next.is_held() && next.fencing_token() > lock.fencing_token());
    assert!(matches!(state.put("total", "2").await, Err(SharedError::NotHeld { .. })));
    drop(lock);
    assert!(next.is_held());
}

#[tokio::test(start_paused = true)]
async fn after_its_holders_lease_a_lock_guards_nothing_even_if_nobody_else_takes_it() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let lock = acquire(&a).await;
    let state = lock.guarded().state();
    state.put("total", "1").await.unwrap();
    let Member { _running: tasks, .. } = a;
    drop(tasks);
    lock.lost().await;
    sleep(2 * SECOND).await;
    assert_eq!(b.shared.holder("ledger").await.unwrap(), None);
    assert!(matches!(state.put("total", "2").await, Err(SharedError::NotHeld { .. })));
    assert!(lock.remaining() > 50 * SECOND && !lock.is_held());
    assert!(b.shared.lock("ledger").try_acquire().await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_is_dropped_is_given_back() {
    let world = World::new();
    let (a, b, c) = (world.member().await, world.member().await, world.member().await);
    let lock = acquire(&a).await;
    // A place in the line that nobody waits at any more holds up nobody.
    let left = timeout(SECOND, acquire(&b)).await;
    assert!(left.is_err());
    drop(lock);
    let begin = Instant::now();
    let next = acquire(&c).await;
    assert!(begin.elapsed() < 5 * SECOND, "{:?}", begin.elapsed());
    next.release().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn patience_ends() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let lock = acquire(&a).await;
    let begin = Instant::now();
    let refused = b.shared.lock("ledger").patience(3 * SECOND).acquire().await.unwrap_err();
    assert_eq!((refused, begin.elapsed()), (SharedError::Busy { lock: "ledger".into() }, 3 * SECOND));
    assert!(b.shared.lock("other").patience(Duration::ZERO).acquire().await.is_ok(), "a free one needs none");
    lock.release().await.unwrap();
}

/// Three who take the lock eight times each.
async fn contend(world: &World) {
    let (inside, total) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut contenders = Tasks::new();
    for _ in 0..3 {
        let (member, inside, total) = (world.member().await, Arc::clone(&inside), Arc::clone(&total));
        contenders.spawn(async move {
            for _ in 0..8 {
                let lock = acquire(&member).await;
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                sleep(SECOND / 10).await;
                total.fetch_add(1, Ordering::SeqCst);
                inside.fetch_sub(1, Ordering::SeqCst);
                lock.release().await.unwrap();
            }
            // Its lease lasts: nothing but being given back ends what it has left.
            sleep(60 * SECOND).await;
        });
    }
    let begin = Instant::now();
    while let Some(ended) = contenders.join_next().await {
        ended.unwrap();
    }
    assert_eq!(total.load(Ordering::SeqCst), 24);
    // Had a claim been overlooked, its limit would have had to end it.
    assert!(begin.elapsed() < 90 * SECOND, "{:?}", begin.elapsed());
    assert_eq!(world.keys("lock/"), [""; 0]);
    assert_eq!(world.keys("permit/"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn with_lost_answers_a_lock_still_has_one_holder_at_a_time() {
    for one_in in [2, 3, 4] {
        let world = World::new();
        world.lose_one_in(one_in);
        contend(&world).await;
        assert!(world.calm() > 20);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_arrive_when_all_is_over_leave_nothing_behind() {
    for (one_in, late) in [(2, SECOND / 4), (3, SECOND), (3, 7 * SECOND), (4, 20 * SECOND)] {
        let world = World::new();
        world.delay_one_in(one_in, late);
        contend(&world).await;
        assert!(world.calm() > 10);
    }
}
