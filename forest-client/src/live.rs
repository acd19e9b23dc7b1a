//! A run that is in this process, and what is known of it.

use std::time::Duration;

use forest_proto::ClientId;

use crate::claim::Claimed;
use crate::notes::Notes;
use crate::registration::Registration;
use crate::stop::Stop;

/// A run between its claim and its acknowledged result, or the end of its thread if that is later.
pub(crate) struct Live {
    pub(crate) client: ClientId,
    pub(crate) lease_id: i64,
    pub(crate) stop: Stop,
    /// A request to stop it lies in etcd and is not about to be removed.
    pub(crate) cancel_seen: bool,
    /// Since when the handler runs, on the clock since boot.
    pub(crate) started: Duration,
    /// While the handler runs.
    pub(crate) claimed: Option<Box<Claimed>>,
    /// From the start of the handler on.
    pub(crate) notes: Option<Notes>,
    pub(crate) deadline: Option<Duration>,
    /// Its handler was given up, and its thread goes on.
    pub(crate) overstays: bool,
    /// Its result is in etcd.
    pub(crate) reported: bool,
}

impl Live {
    pub(crate) fn new(registration: &Registration) -> Self {
        Self {
            client: registration.client.clone(),
            lease_id: registration.lease.id,
            stop: Stop::default(),
            cancel_seen: false,
            started: Duration::ZERO,
            claimed: None,
            notes: None,
            deadline: None,
            overstays: false,
            reported: false,
        }
    }
}
