//! `etcd`: what etcd has to be told. No server is asked, and etcd neither.

use std::fmt::Write as _;

use forest_proto::EtcdRole;
use serde_json::json;

use crate::args::{EtcdCommand, RoleCommand};
use crate::console::Console;
use crate::error::Failure;
use crate::output::View;

pub(super) fn run(command: EtcdCommand, view: &View, console: &mut Console) -> Result<(), Failure> {
    let EtcdCommand::Role(command) = command;
    let role = match command {
        RoleCommand::Worker { group, key_root } => key_root.worker_role(&group),
        RoleCommand::Node { key_root } => key_root.node_role(),
    };
    if view.format.is_document() {
        let permission = |prefix: &String| json!({ "access": "readwrite", "prefix": prefix });
        let permissions: Vec<_> = role.prefixes.iter().map(permission).collect();
        return view.data(console, &json!({ "role": role.name, "permissions": permissions }));
    }
    console.print(&commands(&role))
}

/// For a shell. Neither names nor prefixes have characters that mean anything to one.
fn commands(role: &EtcdRole) -> String {
    let mut text = format!("etcdctl role add {}\n", role.name);
    for prefix in &role.prefixes {
        let _ =
            writeln!(text, "etcdctl role grant-permission {} --prefix=true readwrite {prefix}", role.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use forest_proto::{GroupName, Keyspace};

    use crate::error::Exit;
    use crate::fake::cli_around;
    use crate::settings::Surroundings;

    #[tokio::test]
    async fn a_role_is_printed_as_commands_and_as_a_document() {
        let run = async |line: &[&str]| cli_around(line, &Surroundings::default()).await;
        let said = run(&["etcd", "role", "worker", "trade"]).await;
        assert_eq!((said.exit, said.stderr.as_str()), (Exit::Ok, ""));
        let role = Keyspace::default().worker_role(&GroupName::new("trade").expect("valid"));
        let mut lines = said.stdout.lines();
        assert_eq!(lines.next(), Some("etcdctl role add forest-worker-trade"));
        for prefix in role.prefixes {
            let grant = "etcdctl role grant-permission forest-worker-trade --prefix=true readwrite";
            assert_eq!(lines.next(), Some(format!("{grant} {prefix}").as_str()));
        }
        assert_eq!(lines.next(), None);
        let node = run(&["etcd", "role", "node", "--key-root", "/prod/forest", "-o", "json"]).await.json();
        assert_eq!(
            (&node["role"], &node["permissions"][0]["prefix"]),
            (&"prod-forest-node".into(), &"/prod/forest/".into())
        );
    }
}
