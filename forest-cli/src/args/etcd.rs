//! The command line of `etcd`.

use clap::Subcommand;
use forest_proto::{GroupName, Keyspace};

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum EtcdCommand {
    /// Prints the commands that make the role with which somebody may do what they need to and nothing else.
    #[command(subcommand, after_help = EXAMPLE)]
    Role(RoleCommand),
}

const EXAMPLE: &str = "For example: forest-cli etcd role worker billing | sh
with ETCDCTL_ENDPOINTS and ETCDCTL_USER of an administrator of etcd in the environment.";

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum RoleCommand {
    /// For the workers of one group. They see nothing of other groups, and nothing that nodes own.
    Worker {
        #[arg(value_parser = group)]
        group: GroupName,
        /// The root of the cluster's keys, as the nodes have it.
        #[arg(long, default_value = "/forest", value_parser = keys)]
        key_root: Keyspace,
    },
    /// For the nodes.
    Node {
        /// The root of the cluster's keys.
        #[arg(long, default_value = "/forest", value_parser = keys)]
        key_root: Keyspace,
    },
}

fn group(text: &str) -> Result<GroupName, String> {
    GroupName::new(text).map_err(|error| error.to_string())
}

fn keys(text: &str) -> Result<Keyspace, String> {
    Keyspace::new(text).map_err(|error| error.to_string())
}
