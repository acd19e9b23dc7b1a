//! Somebody who calls, with what they may do.

use std::fmt;

use forest_proto::record::{Face, Grants, Role};
use forest_proto::{GroupName, SecretId, UserName};

/// Who.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// Nobody has to log in here.
    Anonymous,
    User(UserName),
    Token(SecretId),
    /// The common name of a client certificate.
    Certificate(String),
    /// The server's own doing.
    Server,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("anonymous"),
            Self::User(name) => write!(f, "user:{name}"),
            Self::Token(id) => write!(f, "token:{id}"),
            Self::Certificate(name) => write!(f, "certificate:{name}"),
            Self::Server => f.write_str("server"),
        }
    }
}

/// A caller, from where and by which way.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) who: Who,
    pub(crate) grants: Grants,
    /// An address; empty: from this process.
    pub(crate) from: String,
    pub(crate) face: Face,
}

/// Where a role is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope<'a> {
    Group(&'a GroupName),
    /// In any group at all, such as for lists that are cut to what one may see.
    Somewhere,
    /// In what belongs to no group.
    Everywhere,
}

/// A role that is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{who} needs the role {needs} {place}")]
pub(crate) struct Denied {
    who: String,
    needs: Role,
    place: String,
}

impl Caller {
    pub(crate) fn server() -> Self {
        let grants = Grants::everywhere(Role::Admin);
        Self { who: Who::Server, grants, from: String::new(), face: Face::Server }
    }

    pub(crate) fn require(&self, needs: Role, scope: Scope<'_>) -> Result<(), Denied> {
        let has = match scope {
            Scope::Group(group) => self.grants.in_group(group),
            Scope::Somewhere => self.grants.somewhere(),
            Scope::Everywhere => self.grants.everywhere,
        };
        if has >= Some(needs) {
            return Ok(());
        }
        let place = match scope {
            Scope::Group(group) => format!("in group {group}"),
            Scope::Somewhere => "in some group".into(),
            Scope::Everywhere => "in all groups".into(),
        };
        Err(Denied { who: self.who.to_string(), needs, place })
    }

    /// Whether what belongs to a group is shown.
    pub(crate) fn sees(&self, group: &GroupName) -> bool {
        self.grants.in_group(group) >= Some(Role::Viewer)
    }

    /// Whether it may be told what happens, in a group or in all that it sees.
    pub(crate) fn may_listen(&self, group: Option<&GroupName>) -> Result<(), Denied> {
        self.require(Role::Viewer, group.map_or(Scope::Somewhere, Scope::Group))
    }

    /// By what it is told apart from others; where nobody logs in, by its address.
    pub(crate) fn label(&self) -> String {
        match self.who {
            Who::Anonymous => self.from.clone(),
            _ => self.who.to_string(),
        }
    }

    /// The groups it is confined to; `None`: it sees all.
    pub(crate) fn confined_to(&self) -> Option<Vec<GroupName>> {
        match self.grants.everywhere {
            Some(_) => None,
            None => Some(self.grants.groups.keys().cloned().collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_counts_where_it_was_given() {
        let group = |name: &str| GroupName::new(name).expect("valid");
        let grants = Grants { everywhere: None, groups: [(group("trade"), Role::Operator)].into() };
        let caller = Caller { grants, ..Caller::server() };
        let trade = group("trade");
        assert!(caller.require(Role::Operator, Scope::Group(&trade)).is_ok());
        assert!(caller.require(Role::Viewer, Scope::Somewhere).is_ok());
        let denied =
            caller.require(Role::Editor, Scope::Group(&trade)).expect_err("not an editor").to_string();
        assert_eq!(denied, "server needs the role editor in group trade");
        assert!(caller.require(Role::Viewer, Scope::Everywhere).is_err());
        assert!(caller.require(Role::Viewer, Scope::Group(&group("other"))).is_err());
        assert!(caller.sees(&trade) && !caller.sees(&group("other")));
        assert_eq!(caller.confined_to(), Some(vec![trade]));
        assert_eq!(Caller::server().confined_to(), None);
    }
}
