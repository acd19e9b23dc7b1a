//! What a user of etcd needs to be allowed: by prefixes, for the workers of one group and for nodes.
//!
//! Nobody needs more than these. A role made of them keeps workers out of other groups, and out of all that nodes own.

use super::Keyspace;
use crate::name::GroupName;

/// Prefixes under which somebody reads and writes.
///
/// ```
/// use forest_proto::{GroupName, Keyspace};
/// let role = Keyspace::default().worker_role(&GroupName::new("trade").unwrap());
/// assert_eq!(role.name, "forest-worker-trade");
/// assert!(role.prefixes.contains(&"/forest/client/snapshot/trade/".to_owned()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdRole {
    /// How the role may be called: another one for each cluster on the same etcd.
    pub name: String,
    /// Each ends in a slash, so that no other group's name begins with it.
    pub prefixes: Vec<String>,
}

impl Keyspace {
    /// For the workers of a group: registrations, runs and what its handlers share. Not the group's jobs, which
    /// workers need not know.
    #[must_use]
    pub fn worker_role(&self, group: &GroupName) -> EtcdRole {
        let own = ["snapshot", "execute/snapshot", "execute/late", "cancel"];
        let mut prefixes = vec![format!("{}/client/{group}/clients/", self.root)];
        prefixes.extend(own.map(|part| format!("{}/client/{part}/{group}/", self.root)));
        prefixes.push(self.shared(group));
        EtcdRole { name: format!("{}-worker-{group}", self.role_prefix()), prefixes }
    }

    /// For nodes: all of the cluster, but what handlers share among each other.
    #[must_use]
    pub fn node_role(&self) -> EtcdRole {
        EtcdRole { name: format!("{}-node", self.role_prefix()), prefixes: vec![self.all()] }
    }

    fn role_prefix(&self) -> String {
        self.root.trim_start_matches('/').replace('/', "-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ClientId;
    use crate::run_id::RunId;

    #[test]
    fn a_worker_may_do_what_it_does_and_nothing_of_others() {
        let keys = Keyspace::new("/a/b").expect("valid");
        let group = |name: &str| GroupName::new(name).expect("valid");
        let (trade, trader) = (group("trade"), group("trade.r"));
        let role = keys.worker_role(&trade);
        assert_eq!(role.name, "a-b-worker-trade");
        let client = ClientId::new("c").expect("valid");
        let run: RunId = "20270101000000000-1-1".parse().expect("valid");
        let all = |group: &GroupName| {
            [
                keys.client(group, &client),
                keys.snapshot(group, &client, &run),
                keys.execution(group, Some(&client), &run),
                keys.late(group, &client, &run),
                keys.cancel(group, &client, &run),
                keys.shared(group),
            ]
        };
        let may = |key: &str| role.prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
        assert!(all(&trade).iter().all(|key| may(key)));
        assert!(!all(&trader).iter().any(|key| may(key)));
        assert!(!may(&keys.leader()) && !may(&keys.group(&trade)) && !may(&keys.pending(&trade, &run)));
        let node = keys.node_role();
        assert_eq!((node.name.as_str(), node.prefixes.as_slice()), ("a-b-node", &["/a/b/".to_owned()][..]));
    }
}
