use super::*;

fn count(old: Option<&[u8]>) -> Vec<u8> {
    let old: u64 = old.and_then(|old| std::str::from_utf8(old).ok()?.parse().ok()).unwrap_or(0);
    (old + 1).to_string().into_bytes()
}

#[tokio::test(start_paused = true)]
async fn of_two_who_have_seen_the_same_version_one_is_refused() {
    let world = World::new();
    let member = world.member().await;
    let state = member.shared.state();
    assert_eq!(state.get("k").await, Ok(None));
    let first = state.put_if("k", "1", 0).await.unwrap();
    assert_eq!(state.get("k").await.unwrap(), Some(first.clone()));
    let second = state.put_if("k", "2", first.version).await.unwrap();
    assert!(second.version > first.version);
    for stale in [0, first.version] {
        let refused = state.put_if("k", "3", stale).await.unwrap_err();
        let expected = SharedError::Conflict { key: "k".into(), expected: stale, found: second.version };
        assert_eq!(refused, expected);
    }
    assert!(matches!(state.delete_if("k", first.version).await, Err(SharedError::Conflict { .. })));
    assert!(matches!(state.delete_if("k", 0).await, Err(SharedError::Setting { .. })));
    assert_eq!(state.get("k").await.unwrap().unwrap().value, b"2");
    state.delete_if("k", second.version).await.unwrap();
    let gone = state.delete_if("k", second.version).await.unwrap_err();
    assert_eq!(gone, SharedError::Conflict { key: "k".into(), expected: second.version, found: 0 });
    assert_eq!(state.get("k").await, Ok(None));
}

/// Adds one so often, from three workers at once; how often that was certain, and how often it was not.
async fn add(world: &World, each: usize) -> (u64, u64) {
    let mut tasks = Tasks::new();
    for _ in 0..3 {
        let member = world.member().await;
        tasks.spawn(async move {
            let (mut certain, mut uncertain) = (0, 0);
            for _ in 0..each {
                match member.shared.state().update("sum", count).await {
                    Ok(_) => certain += 1,
                    Err(SharedError::Uncertain { .. }) => uncertain += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            (certain, uncertain)
        });
    }
    let (mut certain, mut uncertain) = (0, 0);
    while let Some(ended) = tasks.join_next().await {
        let ended = ended.unwrap();
        (certain, uncertain) = (certain + ended.0, uncertain + ended.1);
    }
    (certain, uncertain)
}

async fn sum(member: &Member) -> u64 {
    let sum = member.shared.state().get("sum").await.unwrap().unwrap().value;
    std::str::from_utf8(&sum).unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn no_update_is_lost_between_three_workers() {
    let world = World::new();
    assert_eq!(add(&world, 30).await, (90, 0));
    assert_eq!(sum(&world.member().await).await, 90);
}

#[tokio::test(start_paused = true)]
async fn with_lost_answers_an_update_counts_once_or_is_said_to_be_uncertain() {
    let world = World::new();
    world.lose_one_in(3);
    let (certain, uncertain) = add(&world, 30).await;
    world.lose_one_in(0);
    let sum = sum(&world.member().await).await;
    assert!((certain..=certain + uncertain).contains(&sum), "{certain} + {uncertain}? : {sum}");
    assert!(certain > uncertain, "{certain} {uncertain}");

    // Alone, nothing can stay uncertain.
    let (world, mut versions) = (World::new(), Vec::new());
    let member = world.member().await;
    world.lose_one_in(2);
    for _ in 0..20 {
        versions.push(member.shared.state().update("sum", count).await.unwrap().version);
    }
    assert_eq!(member.shared.state().get("sum").await.unwrap().unwrap().value, b"20");
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_arrives_late_does_not_bring_back_what_was_deleted() {
    let world = World::new();
    let member = world.member().await;
    let state = member.shared.state();
    for n in 0..8 {
        world.delay_one_in(2, 10 * SECOND);
        let entry = state.put_if(format!("k{n}"), "1", 0).await.unwrap();
        assert!(world.calm() > n);
        state.delete_if(format!("k{n}"), entry.version).await.unwrap();
    }
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(world.keys("state/"), [""; 0]);
    assert_eq!(world.keys("permit/"), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn entries_are_listed_by_prefix_and_page() {
    let world = World::new();
    let member = world.member().await;
    let state = member.shared.state();
    for key in ["a.1", "a.2", "a.3", "ab", "b.1"] {
        state.put(key, key).await.unwrap();
    }
    let list = async |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
        let page = state.list(prefix, after, limit).await.unwrap();
        assert!(page.iter().all(|entry| entry.value == entry.key.as_str().as_bytes()));
        page.iter().map(|entry| entry.key.to_string()).collect()
    };
    assert_eq!(list("a.", None, 2).await, ["a.1", "a.2"]);
    assert_eq!(list("a.", Some("a.2"), 2).await, ["a.3"]);
    assert_eq!(list("a.", Some("a.3"), 2).await, [""; 0]);
    assert_eq!(list("a.", Some("b.1"), 2).await, [""; 0]);
    assert_eq!(list("b", Some("a.1"), 2).await, ["b.1"]);
    assert_eq!(list("", None, 1000).await, ["a.1", "a.2", "a.3", "ab", "b.1"]);
    for (prefix, after, limit) in [("/", None, 1), ("", Some("/"), 1), ("", None, 0), ("", None, 1001)] {
        assert!(state.list(prefix, after, limit).await.is_err(), "{prefix:?} {after:?} {limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_what_is_there_and_shows_every_change() {
    let world = World::new();
    let member = world.member().await;
    let state = member.shared.state();
    let mut absent = state.watch("k").unwrap();
    assert_eq!(absent.next().await, Some(StateChange::Gone));
    state.put("k-other", "x").await.unwrap();
    let first = state.put("k", "1").await.unwrap();
    let mut present = state.watch("k").unwrap();
    for watch in [&mut absent, &mut present] {
        assert_eq!(watch.next().await, Some(StateChange::Set(first.clone())));
    }
    let second = state.put("k", "2").await.unwrap();
    state.delete_if("k", second.version).await.unwrap();
    for watch in [&mut absent, &mut present] {
        assert_eq!(watch.next().await, Some(StateChange::Set(second.clone())));
        assert_eq!(watch.next().await, Some(StateChange::Gone));
    }
}
