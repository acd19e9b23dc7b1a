//! The command lines of `user`, `token` and `audit`.

use clap::{Args, Subcommand};
use forest_proto::admin::v1::Grants;
use forest_proto::record::Role;

use super::lifetime_ms;
use crate::paging::Paging;

const ROLES: [&str; 4] = ["viewer", "operator", "editor", "admin"];

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum UserCommand {
    /// Lists the users.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Adds a user. The password is asked for.
    #[command(after_help = WHAT_ROLES_MAY)]
    Add {
        name: String,
        #[command(flatten)]
        grants: GrantFlags,
        /// Read the password from stdin.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Changes what a user may do, the password, or whether they can log in.
    #[command(after_help = WHAT_ROLES_MAY)]
    Edit(EditUser),
    /// Deletes a user. Their sessions and tokens end with them.
    Delete {
        name: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct EditUser {
    pub(crate) name: String,
    /// What they may do from now on. --role and --grant together replace all that they could do before.
    #[command(flatten)]
    pub(crate) grants: GrantFlags,
    /// Ask for a new password. It ends all of the user's sessions.
    #[arg(long)]
    pub(crate) password: bool,
    /// Read a new password from stdin.
    #[arg(long, conflicts_with = "password")]
    pub(crate) password_stdin: bool,
    /// They cannot log in, and neither sessions nor tokens count.
    #[arg(long, conflicts_with = "enabled")]
    pub(crate) disabled: bool,
    /// They can log in again.
    #[arg(long)]
    pub(crate) enabled: bool,
}

const WHAT_ROLES_MAY: &str = "\
Roles, each with what those before it may do:
  viewer    sees jobs, runs, groups, clients and nodes
  operator  runs jobs by hand, stops runs, enables and disables jobs
  editor    adds, changes and deletes jobs, and everywhere calendars
  admin     groups, and everywhere users, tokens and the audit";

/// What somebody may do.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct GrantFlags {
    /// The role in all groups, and in what belongs to none.
    #[arg(long, value_parser = ROLES)]
    role: Option<String>,
    /// The role in one group. May be given several times.
    #[arg(long = "grant", value_name = "GROUP=ROLE", value_parser = grant)]
    groups: Vec<(String, String)>,
}

impl GrantFlags {
    /// What they come to, if any is given.
    pub(crate) fn grants(self) -> Option<Grants> {
        let given = self.role.is_some() || !self.groups.is_empty();
        let (everywhere, groups) = (self.role.unwrap_or_default(), self.groups.into_iter().collect());
        given.then_some(Grants { everywhere, groups })
    }
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TokenCommand {
    /// Lists your own tokens; all of them, if you are an administrator.
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Makes a token that is yours and prints its secret, which is not shown again.
    #[command(after_help = WHAT_ROLES_MAY)]
    Add {
        /// What it is for.
        name: String,
        #[command(flatten)]
        grants: GrantFlags,
        /// How long it counts: 30d, 12h; at most 10 years.
        #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = lifetime_ms)]
        expires_in: i64,
    },
    /// Ends a token at once.
    Revoke {
        /// As `token list` shows it: the part of the secret between the underscores.
        id: String,
    },
}

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum AuditCommand {
    /// Lists who changed what, newest first.
    List(ListAudit),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ListAudit {
    /// Only what they did: user:ann, token:1f2e.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) who: String,
    /// Only this action: job.edit.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) action: String,
    /// Only what was done to this: the id of a job, the name of a group.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) target: String,
    /// Only in this group.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) group: String,
    #[command(flatten)]
    pub(crate) paging: Paging,
}

fn grant(text: &str) -> Result<(String, String), String> {
    let (group, role) = text.split_once('=').ok_or("must look like GROUP=ROLE")?;
    let role: Role = role.parse().map_err(|error: forest_proto::record::RoleError| error.to_string())?;
    if group.is_empty() {
        return Err("must name a group; --role is for all of them".to_owned());
    }
    Ok((group.to_owned(), role.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_name_a_group_and_a_role() {
        assert_eq!(grant("trade=editor"), Ok(("trade".to_owned(), "editor".to_owned())));
        for wrong in ["trade", "=editor", "trade=", "trade=king", "trade=Editor"] {
            assert!(grant(wrong).is_err(), "{wrong}");
        }
        assert!(ROLES.iter().zip(Role::ALL).all(|(text, role)| *text == role.as_str()));
        assert_eq!(GrantFlags::default().grants(), None);
    }
}
