//! Leaves out of a failing plan what it fails without.

use crate::checker::Promise;
use crate::mutant::Defect;
use crate::plan::Plan;
use crate::run::run;

/// The events that are left, so that the same promise is still broken; in halves first, then one by one.
#[must_use]
pub fn shrink(plan: &Plan, defect: Option<Defect>, promise: Promise) -> Plan {
    let fails = |plan: &Plan| run(plan, defect).violations.iter().any(|found| found.promise == promise);
    let mut least = plan.clone();
    let mut size = least.events.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < least.events.len() {
            let mut less = least.clone();
            less.events.drain(at..(at + size).min(less.events.len()));
            if fails(&less) {
                least = less;
            } else {
                at += size;
            }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    least
}
