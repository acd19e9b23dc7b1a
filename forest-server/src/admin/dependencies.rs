//! Which jobs a job follows: what is refused when it is saved, and what is shown of it.
//!
//! A cycle is refused exactly. The transaction that saves a job compares every job that comes before it, directly or
//! not; so whichever save would close a cycle sees all the others, on whatever node they were made. It also puts the
//! generations of the jobs that are followed: what is dispatched of them from then on is known to be followed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use forest_etcd::Txn;
use forest_proto::record::{After, Job, Trigger, Within};
use forest_proto::time::Instant;
use forest_proto::{JobId, Keyspace, RunId, Segment};

use super::{Admin, AdminError};
use crate::core::dependencies::{MAX_FOLLOWERS, followed_by, is_plain};
use crate::core::jobs::{Jobs, PlannedJob};
use crate::core::view::View;
use forest_schedule::find_zone;

/// So many jobs may be followed by one.
const MAX_FOLLOWED: usize = 32;
/// So many may come before one in all: each is compared in the transaction that saves it.
const MAX_BEFORE: usize = 64;
/// How many of the jobs that stand in the way of a deletion are named.
const NAMED: usize = 3;

/// Another job as it is named beside one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) id: JobId,
    /// `None`: there is no such job.
    pub(crate) name: Option<String>,
}

/// The jobs that a job follows, and those that follow it.
pub(super) fn links(view: &View, job: &Job) -> (Vec<Link>, Vec<Link>) {
    let link = |id: &JobId| {
        let name = view.jobs.get(id).and_then(|planned| planned.job()).map(|job| job.name);
        Link { id: id.clone(), name }
    };
    (followed_by(job).iter().map(link).collect(), view.jobs.followers().of(&job.id).map(link).collect())
}

/// A job after the one that it follows, after the one that this one follows, and so on, as long as each run has one of
/// its own. Never empty.
pub(super) fn chain(jobs: &Jobs, job: &Job) -> Vec<JobId> {
    let mut chain = Vec::new();
    let mut next = Some(job.clone());
    while let Some(job) = next.take() {
        let followed = match &job.trigger {
            Trigger::After(after) if is_plain(after) && chain.len() <= MAX_BEFORE => after.jobs.first(),
            _ => None,
        };
        next = followed.and_then(|id| jobs.get(id)).and_then(PlannedJob::job);
        chain.push(job.id);
    }
    chain.reverse();
    chain
}

/// The runs that the last job of a chain may have for an instant, other than those that somebody asked for. `planned`:
/// those of fixed delays, which are known only to who has seen them.
pub(super) fn runs_at(chain: &[JobId], planned: &[RunId], at: Instant) -> Vec<RunId> {
    let mut runs = Vec::new();
    for job in chain {
        let own = planned.iter().filter(|run| run.job() == job.as_str()).cloned();
        let after = runs.iter().map(|run| RunId::following(job, at, Some(run)));
        let fires = [RunId::scheduled(job, at, 1), RunId::following(job, at, None)];
        runs = own.chain(after).chain(fires).collect();
    }
    runs
}

/// The jobs that follow one, in words; `None`: none does.
pub(super) fn followers_of(view: &View, id: &JobId) -> Option<String> {
    let all: Vec<_> = view.jobs.followers().of(id).map(JobId::as_str).collect();
    match all.len() {
        0 => None,
        count if count > NAMED => {
            Some(format!("{} and {} more jobs", all[..NAMED].join(", "), count - NAMED))
        }
        _ => Some(format!("job {}", all.join(", "))),
    }
}

/// What can be said of `trigger` alone.
pub(super) fn check(job: &Job) -> Result<(), AdminError> {
    let Trigger::After(After { jobs, within, .. }) = &job.trigger else { return Ok(()) };
    if !(1..=MAX_FOLLOWED).contains(&jobs.len()) {
        let reason = format!("takes 1 to {MAX_FOLLOWED} jobs, and has {}", jobs.len());
        return Err(AdminError::invalid("trigger.jobs", reason));
    }
    let refused = |index: usize, reason: &str| {
        Err(AdminError::invalid(format!("trigger.jobs[{index}]"), reason.to_owned()))
    };
    for (index, followed) in jobs.iter().enumerate() {
        if *followed == job.id {
            return refused(index, "a job cannot follow itself: leave it out");
        }
        if jobs[..index].contains(followed) {
            return refused(index, "is named twice: leave it out");
        }
    }
    if *within != Within::Fire && find_zone(&job.time_zone).is_none() {
        return Err(AdminError::invalid("time_zone", "is no IANA time zone, such as Asia/Shanghai"));
    }
    Ok(())
}

/// What a job that follows others is saved on, at one revision of the view.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// All that come before it, with their revisions; 0: it is not there.
    jobs: BTreeMap<JobId, i64>,
    /// Of those that it follows.
    segments: BTreeSet<Segment>,
}

impl Before {
    /// The transaction, only if all that come before the job are as they were.
    pub(super) fn guard(self, txn: Txn, job: &Job, own: Segment, keys: &Keyspace) -> Txn {
        let txn = self.jobs.iter().fold(txn, |txn, (id, revision)| txn.modified(keys.job(id), *revision));
        let others = self.segments.into_iter().filter(|segment| *segment != own);
        others.fold(txn, |txn, segment| txn.put(keys.jobgen(segment), job.id.as_str()))
    }

    fn of(jobs: &Jobs, job: &Job) -> Result<Self, AdminError> {
        let mut before = Self::default();
        // Whom each comes before, to name a cycle.
        let mut towards: BTreeMap<JobId, JobId> = BTreeMap::new();
        let mut open = VecDeque::new();
        for (index, id) in followed_by(job).iter().enumerate() {
            let refused = |reason| Err(AdminError::invalid(format!("trigger.jobs[{index}]"), reason));
            if jobs.get(id).is_none() {
                return refused(format!("there is no job {:?}: add it first, or leave it out", id.as_str()));
            }
            let others = jobs.followers().of(id).filter(|follower| **follower != job.id).count();
            if others >= MAX_FOLLOWERS {
                return refused(format!(
                    "{others} jobs follow job {id}, and no more can: let it follow one of them"
                ));
            }
            before.segments.insert(jobs.segment_of(id));
            towards.insert(id.clone(), job.id.clone());
            open.push_back(id.clone());
        }
        while let Some(id) = open.pop_front() {
            // What is not known must not be there: a watch may have dropped it.
            let planned = jobs.get(&id);
            if before.jobs.insert(id.clone(), planned.map_or(0, |planned| planned.revision)).is_some() {
                continue;
            }
            if before.jobs.len() > MAX_BEFORE {
                let reason =
                    format!("more than {MAX_BEFORE} jobs would come before it: make the chain shorter");
                return Err(AdminError::invalid("trigger.jobs", reason));
            }
            let next = planned.and_then(PlannedJob::job);
            for followed in next.iter().flat_map(followed_by) {
                if *followed == job.id {
                    return Err(cycle(&job.id, &id, &towards));
                }
                towards.entry(followed.clone()).or_insert_with(|| id.clone());
                open.push_back(followed.clone());
            }
        }
        Ok(before)
    }
}

/// `last` follows the job, and comes before it.
fn cycle(job: &JobId, last: &JobId, towards: &BTreeMap<JobId, JobId>) -> AdminError {
    let chain = std::iter::successors(Some(last), |id| towards.get(*id));
    let mut names: Vec<_> = chain.take(MAX_BEFORE + 2).map(JobId::as_str).collect();
    names.reverse();
    names.push(job.as_str());
    AdminError::invalid(
        "trigger.jobs",
        format!("would be a cycle, in which each job follows the next: {}", names.join(", ")),
    )
}

impl Admin {
    /// What has to be as it is for a job to be saved; nothing, if it follows none.
    pub(super) async fn before(&self, job: &Job) -> Result<Before, AdminError> {
        if followed_by(job).is_empty() {
            return Ok(Before::default());
        }
        let job = job.clone();
        self.read(move |now| Before::of(&now.view.jobs, &job)).await?
    }
}

#[cfg(test)]
mod tests {
    use forest_proto::record::{Condition, Need, encode};
    use forest_proto::{GroupName, SegmentCount, TargetName};

    use super::*;

    fn id(text: &str) -> JobId {
        JobId::new(text).expect("valid")
    }

    fn after(name: &str, followed: &[&str]) -> Job {
        let (group, target) = (GroupName::new("g").expect("valid"), TargetName::new("t").expect("valid"));
        let mut job = Job::new(id(name), name, group, target);
        job.trigger = match followed {
            [] => Trigger::Manual,
            _ => Trigger::After(After {
                jobs: followed.iter().map(|name| id(name)).collect(),
                on: Condition::default(),
                need: Need::default(),
                within: Within::default(),
            }),
        };
        job
    }

    fn jobs(all: &[(&str, &[&str])]) -> Jobs {
        let mut jobs = Jobs::new(SegmentCount::DEFAULT, "UTC".into());
        for (revision, (name, followed)) in (10..).zip(all) {
            jobs.put(&id(name), &encode(&after(name, followed)), revision, 1).expect("readable");
        }
        jobs
    }

    fn refusal(result: Result<impl std::fmt::Debug, AdminError>) -> String {
        result.expect_err("is refused").to_string()
    }

    #[test]
    fn what_a_trigger_names_is_checked() {
        assert!(check(&after("s", &["a", "b"])).is_ok());
        assert!(
            refusal(check(&after("s", &["a", "s"]))).contains("trigger.jobs[1]: a job cannot follow itself")
        );
        assert!(refusal(check(&after("s", &["a", "a"]))).contains("trigger.jobs[1]: is named twice"));
        let many: Vec<_> = (0..33).map(|n| n.to_string()).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert!(check(&after("s", &many[..32])).is_ok());
        assert!(refusal(check(&after("s", &many))).contains("takes 1 to 32 jobs, and has 33"));
        let mut none = after("s", &["a"]);
        if let Trigger::After(after) = &mut none.trigger {
            after.jobs.clear();
        }
        assert!(refusal(check(&none)).contains("takes 1 to 32 jobs, and has 0"));
        let mut daily = after("s", &["a"]);
        daily.time_zone = "Mars".into();
        assert!(check(&daily).is_ok(), "no zone is needed");
        if let Trigger::After(after) = &mut daily.trigger {
            after.within = Within::Day;
        }
        assert!(refusal(check(&daily)).contains("time_zone: is no IANA time zone"));
    }

    #[test]
    fn all_that_come_before_are_compared_and_the_generations_of_the_followed_are_put() {
        let jobs = jobs(&[("a", &[]), ("b", &["a"]), ("c", &["a", "b"]), ("x", &[])]);
        let job = after("s", &["c"]);
        let before = Before::of(&jobs, &job).expect("accepted");
        let keys = Keyspace::default();
        let other =
            jobs.count().all().find(|segment| *segment != jobs.segment_of(&id("c"))).expect("another");
        let txn = before.guard(Txn::new(), &job, other, &keys);
        let expected = [("a", 10), ("b", 11), ("c", 12)]
            .map(|(name, revision)| forest_etcd::Guard::Modified { key: keys.job(&id(name)), revision });
        assert_eq!(txn.guards, expected);
        let written: Vec<_> = txn.ops.iter().map(|op| op.key().to_owned()).collect();
        assert_eq!(written, [keys.jobgen(jobs.segment_of(&id("c")))]);
    }

    #[test]
    fn one_that_is_not_known_must_not_be_there() {
        let jobs = jobs(&[("b", &["a"])]);
        let before = Before::of(&jobs, &after("s", &["b"])).expect("accepted");
        assert_eq!(before.jobs, [(id("a"), 0), (id("b"), 10)].into());
    }

    #[test]
    fn what_does_not_exist_or_is_followed_by_too_many_is_refused() {
        let error = refusal(Before::of(&jobs(&[("a", &[])]), &after("s", &["a", "b"])));
        assert!(error.contains("trigger.jobs[1]: there is no job \"b\""), "{error}");
        let names: Vec<_> = (0..32).map(|n| format!("f{n}")).collect();
        let mut all: Vec<(&str, &[&str])> = vec![("a", &[])];
        all.extend(names.iter().map(|name| (name.as_str(), ["a"].as_slice())));
        let all = jobs(&all);
        assert!(refusal(Before::of(&all, &after("s", &["a"]))).contains("32 jobs follow job a"));
        assert!(Before::of(&all, &after("f3", &["a"])).is_ok(), "it is one of them");
    }

    #[test]
    fn cycles_are_refused_and_named() {
        let jobs = jobs(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["c", "a"])]);
        assert!(Before::of(&jobs, &after("e", &["d"])).is_ok());
        let error = refusal(Before::of(&jobs, &after("a", &["d"])));
        assert!(error.contains("each job follows the next: a, d, a"), "{error}");
        let error = refusal(Before::of(&jobs, &after("a", &["c"])));
        assert!(error.contains("each job follows the next: a, c, b, a"), "{error}");
    }

    #[test]
    fn the_runs_of_a_chain_are_found_by_their_time() {
        let jobs = jobs(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["a", "b"])]);
        let at = Instant::from_ms(1_795_000_000_000);
        let planned = RunId::planned(&id("a"), at, 7);
        let runs = |name| {
            let job = jobs.get(&id(name)).and_then(PlannedJob::job).expect("a job");
            runs_at(&chain(&jobs, &job), std::slice::from_ref(&planned), at)
        };
        let fire = RunId::scheduled(&id("a"), at, 1);
        let second = RunId::following(&id("b"), at, Some(&fire));
        assert!(runs("a").contains(&fire) && runs("b").contains(&second));
        assert!(
            runs("a").contains(&planned)
                && runs("b").contains(&RunId::following(&id("b"), at, Some(&planned)))
        );
        assert!(runs("c").contains(&RunId::following(&id("c"), at, Some(&second))));
        assert!(runs("d").contains(&RunId::following(&id("d"), at, None)));
    }

    #[test]
    fn a_chain_has_an_end() {
        let names: Vec<_> = (0..65).map(|n| format!("j{n:02}")).collect();
        let lists: Vec<Vec<&str>> =
            (0..65).map(|n| if n == 0 { vec![] } else { vec![names[n - 1].as_str()] }).collect();
        let all: Vec<_> = names.iter().map(String::as_str).zip(lists.iter().map(Vec::as_slice)).collect();
        let all = jobs(&all);
        assert!(Before::of(&all, &after("s", &["j63"])).is_ok());
        assert!(refusal(Before::of(&all, &after("s", &["j64"]))).contains("more than 64 jobs"));
    }
}
