//! Counts agree with the rows that they count, whoever saves what how often.

use std::collections::BTreeMap;

use forest_proto::record::Origin;

use super::super::tally::{By, OUTCOMES, Tallied, TallyFilter};
use super::*;

fn all(by: By) -> TallyFilter {
    let until = Instant::from_ms(START_MS + 400 * 86_400_000);
    TallyFilter { by, since: Instant::from_ms(START_MS), until, ..TallyFilter::default() }
}

async fn tallies(history: &History, filter: &TallyFilter) -> Vec<Tallied> {
    history.tallies(filter, 200).await.expect("readable")
}

/// By key and outcome, as the rows of the history have it.
async fn counted_by_hand(
    history: &History,
    key: impl Fn(&Entry) -> String,
) -> BTreeMap<(String, String), i64> {
    let mut counts = BTreeMap::new();
    let page = history.list(&Filter::default(), 200, None).await.expect("readable");
    assert_eq!(page.next, None, "all rows are on one page");
    for row in page.rows {
        let outcome = row.outcome.expect("it has ended").as_str().to_owned();
        *counts.entry((key(&row), outcome)).or_default() += 1;
    }
    counts
}

fn counted(tallies: &[Tallied]) -> BTreeMap<(String, String), i64> {
    let outcomes = |of: &Tallied| {
        let key = of.key.clone();
        let counts = OUTCOMES.map(|outcome| outcome.as_str().to_owned()).into_iter().zip(of.tally.outcomes);
        counts.filter(|(_, count)| *count > 0).map(move |(outcome, count)| ((key.clone(), outcome), count))
    };
    tallies.iter().flat_map(outcomes).collect()
}

/// Every count by every key is that of the rows.
pub(super) async fn check_against_rows(history: &History) {
    let hour = |row: &Entry| {
        let at = row.created_at.expect("known").to_string();
        format!("{} {}:00:00", &at[..10], &at[11..13])
    };
    let day = |row: &Entry| row.created_at.expect("known").to_string()[..10].to_owned();
    let by = async |by: By| counted(&tallies(history, &all(by)).await);
    assert_eq!(by(By::Hour).await, counted_by_hand(history, hour).await);
    assert_eq!(by(By::Day).await, counted_by_hand(history, day).await);
    assert_eq!(by(By::Job).await, counted_by_hand(history, |row| row.job_id.clone()).await);
    assert_eq!(by(By::Group).await, counted_by_hand(history, |row| row.group.clone()).await);
}

pub(super) async fn check_a_run_is_counted_once(history: &History) {
    let outcomes = OUTCOMES.iter().cycle();
    let runs: Vec<_> = (0..150).zip(outcomes).map(|(n, outcome)| decided(n, *outcome, "")).collect();
    let rows: Vec<_> = runs.iter().map(|run| Row::new(run.clone(), 7)).collect();
    // Undecided, and late before its decision: not counted yet.
    history.save(&[Row::new(execution(1, None, ""), 7)]).await.expect("saved");
    history.save(&[Row::new(execution(2, Some(Outcome::Failed), ""), 7)]).await.expect("saved");
    history.save(&[Row::late(execution(3, Some(Outcome::Succeeded), ""), 7)]).await.expect("saved");
    assert_eq!(tallies(history, &all(By::Job)).await, []);

    history.save(&rows[..100]).await.expect("saved");
    // An answer was lost, or another leader does the same: again, in other batches, and with a second decision.
    history.save(&rows[50..]).await.expect("saved");
    let other = Row::new(decided(4, Outcome::Succeeded, "another decision"), 8);
    let twice = [rows[120].clone(), other, rows[120].clone(), rows[5].clone()];
    history.save(&twice).await.expect("saved");
    history.save(&[Row::late(execution(6, Some(Outcome::Succeeded), ""), 7)]).await.expect("saved");
    // Two decisions of one run in one batch: the first one stands, and counts.
    let first = Row::new(decided(149 + 1, Outcome::Failed, ""), 7);
    let second = Row::new(decided(149 + 1, Outcome::Succeeded, ""), 7);
    history.save(&[first, second]).await.expect("saved");
    check_against_rows(history).await;
    let total: i64 = tallies(history, &all(By::Day)).await.iter().map(|of| of.tally.runs()).sum();
    assert_eq!(total, 151);
}

pub(super) async fn check_times_are_added_up(history: &History) {
    let save = async |n: usize, took_ms: u64, late_ms: i64, origin: Origin| {
        let mut run = decided(n, Outcome::Succeeded, "");
        (run.snapshot.job_id, run.snapshot.group) =
            (JobId::new("one").expect("valid"), GroupName::new("g").expect("valid"));
        run.snapshot.origin = origin;
        // A further attempt is created long after its fire.
        run.snapshot.created_at = Instant::from_ms(minute(n).as_ms() + 30_000);
        run.started_at = Some(Instant::from_ms(minute(n).as_ms() + late_ms));
        run.duration_ms = took_ms;
        history.save(&[Row::new(run, 1)]).await.expect("saved");
    };
    save(0, 100, 20, Origin::Schedule).await;
    save(1, 101, 1_000, Origin::Misfire).await;
    save(2, 700_000, 30_500, Origin::Retry).await;
    save(3, 60_000, 30_000, Origin::Backfill).await;
    let mut skipped = decided(4, Outcome::MisfireSkipped, "");
    skipped.started_at = None;
    skipped.snapshot.missed_fires = 40;
    (skipped.snapshot.job_id, skipped.snapshot.group) =
        (JobId::new("one").expect("valid"), GroupName::new("g").expect("valid"));
    history.save(&[Row::new(skipped, 1)]).await.expect("saved");

    let found = tallies(history, &all(By::Job)).await;
    let [Tallied { key, tally }] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((key.as_str(), tally.runs(), tally.started), ("one", 5, 4));
    assert_eq!(tally.missed_fires, 4 * 2 + 40);
    assert_eq!((tally.duration.sum_ms, tally.duration.max_ms), (760_201, 700_000));
    assert_eq!(tally.duration.parts, [1, 1, 0, 1, 0]);
    assert_eq!((tally.delay.sum_ms, tally.delay.max_ms), (1_520, 1_000));
    assert_eq!(tally.delay.parts, [2, 2, 0, 0, 0]);
}

pub(super) async fn check_counts_are_filtered_and_come_in_pages(history: &History) {
    // Three hours and some minutes.
    let rows: Vec<_> = (0..200).map(|n| Row::new(decided(n, Outcome::Succeeded, ""), 1)).collect();
    history.save(&rows).await.expect("saved");
    let runs = |found: &[Tallied]| found.iter().map(|of| of.tally.runs()).sum::<i64>();
    let hours = tallies(history, &all(By::Hour)).await;
    assert_eq!(hours.iter().map(|of| of.tally.runs()).collect::<Vec<_>>(), [54, 60, 60, 26]);
    assert_eq!(hours[0].at(), Some(Instant::from_ms(START_MS / 3_600_000 * 3_600_000)));
    let begins = |hour: usize| hours[hour].at().expect("an hour");

    let some = TallyFilter { since: begins(1), until: begins(3), ..all(By::Hour) };
    assert_eq!(tallies(history, &some).await, hours[1..3]);
    let within = Instant::from_ms(begins(3).as_ms() + 1);
    let more = TallyFilter { until: within, ..some.clone() };
    assert_eq!(tallies(history, &more).await, hours[1..], "an hour counts whole");
    let group = TallyFilter { group: Some("g1".into()), ..all(By::Job) };
    assert_eq!(runs(&tallies(history, &group).await), 67);
    let job = TallyFilter { job_id: Some("job-3".into()), ..all(By::Group) };
    assert_eq!(runs(&tallies(history, &job).await), 29);
    let neither = TallyFilter { job_id: Some("' OR 1=1 --".into()), ..all(By::Group) };
    assert_eq!(tallies(history, &neither).await, []);

    for by in [By::Hour, By::Day, By::Job, By::Group] {
        let whole = tallies(history, &all(by)).await;
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = history.tallies(&TallyFilter { after, ..all(by) }, 2).await.expect("readable");
            after = page.last().map(|last| last.key.clone());
            seen.extend(page);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, whole, "{by:?}");
    }
    assert_eq!(By::Hour.key_at(begins(1)), hours[1].key);
    let days = tallies(history, &all(By::Day)).await;
    assert_eq!(By::Day.key_at(days[0].at().expect("a day")), days[0].key);
}
