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
    if !(0..=2).contains(&request.sort_order) || !(0..=4).contains(&request.sort_target) {
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
    // Sorted or filtered, the first ones are known only when all are.
    let is_plain = !is_sorted(request) && !is_filtered(request);
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

fn is_sorted(request: &PbRangeRequest) -> bool {
    request.sort_order == DESCENDING || request.sort_target != 0
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

/// Without an order, anything but the key is sorted ascending, as etcd does.
fn sort(request: &PbRangeRequest, found: &mut [Found<'_>]) {
    let order = match (request.sort_order, request.sort_target) {
        (0, 0) => return,
        (0, _) => ASCENDING,
        (order, _) => order,
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
