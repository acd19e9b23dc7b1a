use std::collections::BTreeSet;

use tokio::time::{Instant, sleep, timeout};

use super::*;

fn queue(member: &Member) -> Queue {
    member.shared.queue("mail").unwrap()
}

fn text(value: Option<Vec<u8>>) -> Option<String> {
    value.map(|value| String::from_utf8(value).unwrap())
}

#[tokio::test(start_paused = true)]
async fn items_come_out_in_the_order_of_their_pushes() {
    let world = World::new();
    let member = world.member().await;
    let queue = queue(&member);
    assert_eq!(
        (queue.pop().await, queue.peek().await, queue.is_empty().await),
        (Ok(None), Ok(None), Ok(true))
    );
    for number in 1..=12 {
        assert_eq!(queue.push(format!("item {number}")).await.unwrap(), number);
    }
    assert_eq!(queue.len().await, Ok(12));
    assert_eq!(text(queue.peek().await.unwrap()).as_deref(), Some("item 1"));
    for number in 1..=12 {
        assert_eq!(text(queue.pop().await.unwrap()), Some(format!("item {number}")));
    }
    assert_eq!((queue.pop().await, queue.len().await), (Ok(None), Ok(0)));
}

#[tokio::test(start_paused = true)]
async fn an_item_in_work_is_nobody_elses_and_comes_back_to_its_place_unless_it_is_done() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let (here, there) = (queue(&a), queue(&b));
    for value in ["1", "2", "3"] {
        here.push(value).await.unwrap();
    }
    let first = here.take().await.unwrap().unwrap();
    let second = there.take().await.unwrap().unwrap();
    assert_eq!((first.value(), second.value(), first.is_held()), (&b"1"[..], &b"2"[..], true));
    assert_eq!((text(there.peek().await.unwrap()).as_deref(), there.len().await), (Some("3"), Ok(3)));
    let token = first.fencing_token();
    first.put_back().await.unwrap();
    let again = there.take().await.unwrap().unwrap();
    assert_eq!((again.value(), again.number()), (&b"1"[..], 1));
    assert!(again.fencing_token() > token);
    again.done().await.unwrap();
    second.done().await.unwrap();
    let third = here.take().await.unwrap().unwrap();
    drop(third);
    let third = timeout(5 * SECOND, there.take_within(60 * SECOND)).await.unwrap().unwrap().unwrap();
    assert_eq!(third.value(), b"3");
    third.done().await.unwrap();
    assert_eq!(here.len().await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_taker_dies_comes_back_and_the_dead_one_cannot_end_it() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    queue(&a).push("1").await.unwrap();
    let item = queue(&a).take().await.unwrap().unwrap();
    assert!(queue(&b).take().await.unwrap().is_none());
    let begin = Instant::now();
    let Member { _running: tasks, .. } = a;
    drop(tasks);
    let again = queue(&b).take_within(60 * SECOND).await.unwrap().unwrap();
    assert_eq!(again.value(), b"1");
    assert!(begin.elapsed() <= TTL + SECOND, "{:?}", begin.elapsed());
    assert!(!item.is_held());
    let late = item.done().await.unwrap_err();
    assert_eq!(late, SharedError::NotHeld { what: "item 1 of queue mail".into() });
    again.done().await.unwrap();
    assert_eq!(queue(&b).len().await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_an_empty_one_is_waited_for() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    let begin = Instant::now();
    assert!(queue(&a).take_within(2 * SECOND).await.unwrap().is_none());
    assert_eq!(begin.elapsed(), 2 * SECOND);
    let small = queue(&b).max_length(2);
    let waiting = queue(&a);
    let (taken, ()) = tokio::join!(waiting.take_within(60 * SECOND), async {
        sleep(SECOND).await;
        small.push("1").await.unwrap();
    });
    assert!(begin.elapsed() < 4 * SECOND, "{:?}", begin.elapsed());
    small.push("2").await.unwrap();
    let full = small.push("3").await.unwrap_err();
    assert_eq!(full, SharedError::QueueFull { queue: "mail".into(), max: 2 });
    taken.unwrap().unwrap().done().await.unwrap();
    assert_eq!(small.push("3").await.unwrap(), 3);
}

/// 4 who push and 4 who pop, all at once.
async fn crowd(world: &World, each: u64) {
    let (mut pushing, mut popping) = (Tasks::new(), Tasks::new());
    for pusher in 0..4 {
        let member = world.member().await;
        pushing.spawn(async move {
            let mut numbers = Vec::new();
            for item in 0..each {
                numbers
                    .push((queue(&member).push(format!("{pusher}.{item}")).await.unwrap(), (pusher, item)));
            }
            numbers
        });
    }
    for _ in 0..4 {
        let member = world.member().await;
        popping.spawn(async move {
            let mut items = Vec::new();
            while let Some(item) = queue(&member).take_within(20 * SECOND).await.unwrap() {
                items.push((item.number(), String::from_utf8(item.value().to_vec()).unwrap()));
                item.done().await.unwrap();
            }
            items
        });
    }
    let (mut pushed, mut popped) = (Vec::new(), Vec::new());
    while let Some(numbers) = pushing.join_next().await {
        pushed.extend(numbers.unwrap());
    }
    while let Some(items) = popping.join_next().await {
        let items = items.unwrap();
        assert!(items.is_sorted_by_key(|(number, _)| *number), "each sees them in order: {items:?}");
        popped.extend(items);
    }
    popped.sort_unstable();
    pushed.sort_unstable();
    let numbers: BTreeSet<u64> = pushed.iter().map(|(number, _)| *number).collect();
    assert_eq!((numbers.len(), numbers.first(), numbers.last()), (pushed.len(), Some(&1), Some(&(4 * each))));
    let expected: Vec<_> =
        pushed.iter().map(|(number, (pusher, item))| (*number, format!("{pusher}.{item}"))).collect();
    assert_eq!(popped, expected, "nothing lost, nothing doubled");
    for pusher in 0..4 {
        let own = pushed.iter().filter(|(_, (of, _))| *of == pusher);
        assert!(own.map(|(_, (_, item))| *item).is_sorted(), "in the order of one's pushes");
    }
}

#[tokio::test(start_paused = true)]
async fn under_four_pushers_and_four_poppers_nothing_is_lost_doubled_or_out_of_order() {
    crowd(&World::new(), 40).await;
}

#[tokio::test(start_paused = true)]
async fn nor_is_it_when_answers_are_lost() {
    let world = World::new();
    world.lose_one_in(3);
    crowd(&world, 10).await;
    assert!(world.calm() > 20);
}

#[tokio::test(start_paused = true)]
async fn nor_is_it_when_requests_arrive_when_all_is_over() {
    for late in [SECOND / 4, 5 * SECOND] {
        let world = World::new();
        world.delay_one_in(3, late);
        crowd(&world, 10).await;
        assert!(world.calm() > 20);
        assert_eq!(world.keys("queue/"), ["/forest-shared/trade/queue/mail/tail"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_arrives_after_the_item_was_put_back_does_not_hold_it() {
    let world = World::new();
    let (a, b) = (world.member().await, world.member().await);
    queue(&a).push("1").await.unwrap();
    // The first attempt of each claim comes late; the second one is what counts.
    world.delay_one_in(1, 10 * SECOND);
    let queue = queue(&a);
    let (item, ()) = tokio::join!(queue.take(), async {
        sleep(SECOND / 100).await;
        world.calm();
    });
    item.unwrap().unwrap().put_back().await.unwrap();
    sleep(20 * SECOND).await;
    assert!(b.shared.queue("mail").unwrap().take().await.unwrap().is_some());
}
