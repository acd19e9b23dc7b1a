//! Reading: one range at one revision, filtered, sorted and cut as the request says.

use std::cmp::Ordering;

use etcd_client::proto::{PbKeyValue, PbRangeRequest, PbRangeResponse};

use crate::fault::Fault;
use crate::mvcc::{Live, Mvcc, Version};
use crate::span::Span;

const ASCENDING: i32 = 1;
const DESCENDING: i32 = 2;

/// What can be refused before anything is read.
pub(crate) fn check(request: &PbRangeRequest) -> Result<(), Fault> {
    if request.key.is_empty() {
        return Err(Fault::EmptyKey);
    }
    // etcd 3.4 dies of it; later ones refuse it.
    if !(0..=4).contains(&request.sort_target) {
        return Err(Fault::InvalidSortOption);
    }
    Ok(())
}

/// The answer without its header.
pub(crate) fn range(mvcc: &Mvcc, request: &PbRangeRequest) -> Result<PbRangeResponse, Fault> {
    let revision = mvcc.check_revision(request.revision)?;
    let span = Span::new(&request.key, &request.range_end);
    let mut count = 0_i64;
    let mut found: Vec<Found<'_>> = Vec::new();
    let limit = usize::try_from(request.limit).unwrap_or(0);
    // Sorted or filtered, the first ones are known only when all are. etcd forgets this where a target is named
    // without an order: it sorts what it found first.
    let is_plain = request.sort_order == 0 && !is_filtered(request);
    for (key, mod_revision, live) in mvcc.range(&span, revision) {
        count += 1;
        let enough = limit > 0 && is_plain && found.len() > limit;
        if !request.count_only && !enough {
            found.push(Found { key, mod_revision, live });
        }
    }
    found.retain(|found| passes(request, found));
    sort(request, &mut found);
    let more = limit > 0 && found.len() > limit;
    if more {
        found.truncate(limit);
    }
    let kvs = found.iter().map(|found| found.message(request.keys_only)).collect();
    Ok(PbRangeResponse { header: None, kvs, more, count })
}

struct Found<'a> {
    key: &'a [u8],
    mod_revision: i64,
    live: &'a Live,
}

impl Found<'_> {
    fn message(&self, keys_only: bool) -> PbKeyValue {
        let version = Version { revision: self.mod_revision, live: Some(self.live.clone()) };
        let mut message = version.message(self.key);
        if keys_only {
            message.value.clear();
        }
        message
    }
}

fn is_filtered(request: &PbRangeRequest) -> bool {
    [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ]
    .iter()
    .any(|bound| *bound != 0)
}

fn passes(request: &PbRangeRequest, found: &Found<'_>) -> bool {
    let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(found.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(found.live.create_revision, request.min_create_revision, request.max_create_revision)
}

/// As etcd does: without an order, anything but the key is sorted ascending; with an unknown one, nothing is.
fn sort(request: &PbRangeRequest, found: &mut [Found<'_>]) {
    let order = match (request.sort_order, request.sort_target) {
        (0, 1..) => ASCENDING,
        (order @ (ASCENDING | DESCENDING), _) => order,
        _ => return,
    };
    let compare = |a: &Found<'_>, b: &Found<'_>| -> Ordering {
        match request.sort_target {
            1 => a.live.version.cmp(&b.live.version),
            2 => a.live.create_revision.cmp(&b.live.create_revision),
            3 => a.mod_revision.cmp(&b.mod_revision),
            4 => a.live.value.cmp(&b.live.value),
            _ => a.key.cmp(b.key),
        }
    };
    match order {
        DESCENDING => found.sort_by(|a, b| compare(b, a)),
        _ => found.sort_by(compare),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Keys with their values, one a revision from 2 on; "b" is written twice.
    fn store() -> Mvcc {
        let mut mvcc = Mvcc::new();
        for (key, value) in [("a", "3"), ("b", "9"), ("c", "1"), ("d", "2"), ("b", "0")] {
            mvcc.put(key.as_bytes(), Arc::from(value.as_bytes()), 0);
            mvcc.commit();
        }
        mvcc
    }

    fn everything() -> PbRangeRequest {
        PbRangeRequest { key: vec![0], range_end: vec![0], ..PbRangeRequest::default() }
    }

    fn keys(request: &PbRangeRequest) -> String {
        let answer = range(&store(), request).unwrap();
        answer.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
    }

    #[test]
    fn a_limit_cuts_and_says_so() {
        let cut = |limit| {
            let answer = range(&store(), &PbRangeRequest { limit, ..everything() }).unwrap();
            (answer.kvs.len(), answer.more, answer.count)
        };
        assert_eq!(
            [cut(0), cut(3), cut(4), cut(-1)],
            [(4, false, 4), (3, true, 4), (4, false, 4), (4, false, 4)]
        );
    }

    #[test]
    fn an_order_is_kept_before_the_limit_and_a_target_alone_after_it() {
        let sorted = |sort_order, sort_target, limit| {
            keys(&PbRangeRequest { sort_order, sort_target, limit, ..everything() })
        };
        assert_eq!(sorted(DESCENDING, 0, 0), "dcba");
        assert_eq!(sorted(ASCENDING, 1, 0), "acdb");
        assert_eq!(sorted(DESCENDING, 2, 2), "dc");
        assert_eq!(sorted(ASCENDING, 3, 0), "acdb");
        assert_eq!(sorted(ASCENDING, 4, 2), "bc");
        // Found "a", "b" and "c".
        assert_eq!(sorted(0, 4, 2), "bc");
        assert_eq!(sorted(0, 3, 2), "ac");
        assert_eq!(sorted(9, 4, 0), "abcd");
    }

    #[test]
    fn filters_take_away_and_the_count_does_not_know() {
        let request = PbRangeRequest { min_mod_revision: 4, max_mod_revision: 5, ..everything() };
        assert_eq!((keys(&request), range(&store(), &request).unwrap().count), ("cd".into(), 4));
        assert_eq!(keys(&PbRangeRequest { min_create_revision: 3, limit: 2, ..everything() }), "bc");
        assert_eq!(keys(&PbRangeRequest { max_create_revision: 3, ..everything() }), "ab");
    }

    #[test]
    fn a_revision_of_the_past_is_as_it_was() {
        assert_eq!(keys(&PbRangeRequest { revision: 3, ..everything() }), "ab");
        let answer =
            range(&store(), &PbRangeRequest { key: b"b".into(), revision: 3, ..Default::default() }).unwrap();
        assert_eq!((answer.kvs[0].value.as_slice(), answer.kvs[0].version), (&b"9"[..], 1));
        let future = range(&store(), &PbRangeRequest { revision: 7, ..everything() });
        assert_eq!(future, Err(Fault::FutureRevision));
    }

    #[test]
    fn keys_or_a_count_can_be_had_alone() {
        let answer = range(&store(), &PbRangeRequest { keys_only: true, ..everything() }).unwrap();
        assert!(answer.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision > 0));
        let answer = range(&store(), &PbRangeRequest { count_only: true, limit: 1, ..everything() }).unwrap();
        assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 4, false));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert_eq!(check(&PbRangeRequest::default()), Err(Fault::EmptyKey));
        assert_eq!(check(&PbRangeRequest { sort_target: 5, ..everything() }), Err(Fault::InvalidSortOption));
    }
}
