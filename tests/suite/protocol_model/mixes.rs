//! Which faults are explored together. Faults multiply: a mix has as many as can be exhausted in its time.

use super::world::Budget;

pub(super) struct Mix {
    pub(super) name: &'static str,
    pub(super) budget: Budget,
    /// How many of the catalogue's fires come due.
    pub(super) fires: u8,
}

impl Mix {
    /// Dead nodes are what makes the pauses of a collector matter.
    pub(super) fn has_slow_collector(&self) -> bool {
        self.budget.node_crash > 0
    }
}

const NONE: Budget = Budget::NONE;

/// Each is exhausted within seconds in a debug build.
pub(super) const SHORT: &[Mix] = &[
    Mix { name: "no fault, all fires", budget: NONE, fires: 3 },
    Mix {
        name: "two leader changes, ambiguous reply",
        budget: Budget { leader_expiry: 2, ambiguous: 1, ..NONE },
        fires: 1,
    },
    Mix {
        name: "leader change, client expiry, ambiguous reply",
        budget: Budget { leader_expiry: 1, client_expiry: 1, ambiguous: 1, ..NONE },
        fires: 1,
    },
    Mix { name: "client expiry, two fires", budget: Budget { client_expiry: 1, ..NONE }, fires: 2 },
    Mix { name: "ambiguous reply, two fires", budget: Budget { ambiguous: 1, ..NONE }, fires: 2 },
    Mix {
        name: "both clients vanish, full clients",
        budget: Budget { client_expiry: 2, client_crash: 1, no_slot: 1, ..NONE },
        fires: 1,
    },
    Mix {
        name: "node crash, client expiry, slow collectors",
        budget: Budget { node_crash: 1, client_expiry: 1, ..NONE },
        fires: 1,
    },
    Mix {
        name: "node crash, ambiguous reply, slow collectors",
        budget: Budget { node_crash: 1, ambiguous: 1, ..NONE },
        fires: 1,
    },
    Mix {
        name: "two edits, two ambiguous replies",
        budget: Budget { edit: 2, ambiguous: 2, ..NONE },
        fires: 1,
    },
    Mix { name: "a job is created, all fires", budget: Budget { create: 1, ..NONE }, fires: 3 },
    Mix {
        name: "manual run, leader change, edit",
        budget: Budget { manual: 1, leader_expiry: 1, edit: 1, ..NONE },
        fires: 1,
    },
    Mix { name: "manual run, ambiguous reply", budget: Budget { manual: 1, ambiguous: 1, ..NONE }, fires: 1 },
    Mix {
        name: "cancel, client expiry, ambiguous reply",
        budget: Budget { cancel: 1, client_expiry: 1, ambiguous: 1, ..NONE },
        fires: 1,
    },
    Mix {
        name: "cancel, client crash, full clients, ambiguous reply",
        budget: Budget { cancel: 1, client_crash: 1, no_slot: 1, ambiguous: 1, ..NONE },
        fires: 1,
    },
];

/// For a release build and a limit: the first alone has more than thirty million states.
pub(super) const LONG: &[Mix] = &[
    Mix {
        name: "long: manual run, leader change, ambiguous reply, two fires",
        budget: Budget { manual: 1, leader_expiry: 1, ambiguous: 1, ..NONE },
        fires: 2,
    },
    Mix {
        name: "long: leader change, client expiry, ambiguous reply, two fires",
        budget: Budget { leader_expiry: 1, client_expiry: 1, ambiguous: 1, ..NONE },
        fires: 2,
    },
    Mix {
        name: "long: cancel, client expiry, ambiguous reply, two fires",
        budget: Budget { cancel: 1, client_expiry: 1, ambiguous: 1, ..NONE },
        fires: 2,
    },
    Mix {
        name: "long: leader change, edit, a job is created, all fires",
        budget: Budget { leader_expiry: 1, edit: 1, create: 1, ..NONE },
        fires: 3,
    },
    Mix {
        name: "long: node crash, leader change, client expiry, ambiguous reply",
        budget: Budget { node_crash: 1, leader_expiry: 1, client_expiry: 1, ambiguous: 1, ..NONE },
        fires: 1,
    },
    Mix {
        name: "long: everything once",
        budget: Budget {
            leader_expiry: 1,
            client_expiry: 1,
            ambiguous: 1,
            client_crash: 1,
            node_crash: 0,
            edit: 1,
            create: 0,
            manual: 1,
            cancel: 1,
            no_slot: 1,
        },
        fires: 1,
    },
];
