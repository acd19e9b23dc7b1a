//! Who may administer the cluster: `server/user/{user}`, `server/token/{token}`, `server/session/{session}`.
//!
//! No secret is stored: of a password its argon2id hash, of tokens and sessions, which are random and long, their
//! SHA-256.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::name::{GroupName, UserName};
use crate::time::Instant;

/// What somebody may do. Each role includes those before it.
///
/// ```
/// use forest_proto::record::Role;
/// assert!(Role::Editor > Role::Operator);
/// assert_eq!("viewer".parse::<Role>(), Ok(Role::Viewer));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema))]
pub enum Role {
    /// Sees everything but users, tokens and the audit.
    Viewer,
    /// Runs jobs by hand, stops runs, enables and disables jobs.
    Operator,
    /// Adds, changes and deletes jobs; calendars, if it is for all groups.
    Editor,
    /// Groups; and if it is for all groups users, tokens, the audit and nodes.
    Admin,
}

impl Role {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Viewer, Self::Operator, Self::Editor, Self::Admin];

    /// As it is written in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Editor => "editor",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no role: viewer, operator, editor or admin")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;
    fn from_str(text: &str) -> Result<Self, RoleError> {
        let known = Self::ALL.into_iter().find(|role| role.as_str() == text);
        known.ok_or_else(|| RoleError(text.chars().take(40).collect()))
    }
}

/// What somebody may do, and where.
///
/// ```
/// use forest_proto::GroupName;
/// use forest_proto::record::{Grants, Role};
/// let trade = GroupName::new("trade").unwrap();
/// let grants = Grants { everywhere: Some(Role::Viewer), groups: [(trade.clone(), Role::Editor)].into() };
/// assert_eq!(grants.in_group(&trade), Some(Role::Editor));
/// assert_eq!(grants.in_group(&GroupName::new("other").unwrap()), Some(Role::Viewer));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
// The message of the same name has texts in place of roles.
#[cfg_attr(feature = "rest", derive(utoipa::ToSchema), schema(as = GivenRoles))]
pub struct Grants {
    /// In all groups, and in what belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub everywhere: Option<Role>,
    /// In single groups.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<GroupName, Role>,
}

impl Grants {
    /// One role in all groups.
    #[must_use]
    pub fn everywhere(role: Role) -> Self {
        Self { everywhere: Some(role), groups: BTreeMap::new() }
    }

    /// The role in a group.
    #[must_use]
    pub fn in_group(&self, group: &GroupName) -> Option<Role> {
        self.everywhere.max(self.groups.get(group).copied())
    }

    /// The role that it is in at least one place.
    #[must_use]
    pub fn somewhere(&self) -> Option<Role> {
        self.groups.values().copied().max().max(self.everywhere)
    }

    /// What both allow.
    #[must_use]
    pub fn within(&self, other: &Self) -> Self {
        let everywhere = self.everywhere.min(other.everywhere);
        let both = self.groups.keys().chain(other.groups.keys()).filter_map(|group| {
            let role = self.in_group(group).min(other.in_group(group))?;
            Some((group.clone(), role))
        });
        Self { everywhere, groups: both.collect() }
    }

    /// Whether everything that `other` may is among what these may.
    #[must_use]
    pub fn include(&self, other: &Self) -> bool {
        other.everywhere <= self.everywhere
            && other.groups.iter().all(|(group, role)| Some(*role) <= self.in_group(group))
    }
}

/// Somebody who logs in with a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// How they log in.
    pub name: UserName,
    /// The PHC string of argon2id; empty: there is none, and nobody logs in with one.
    pub password: String,
    /// What they may do.
    pub grants: Grants,
    /// Whether they cannot log in, nor use their tokens and sessions.
    #[serde(default, skip_serializing_if = "super::is_default")]
    pub disabled: bool,
    /// When they were added.
    pub created_at: Instant,
    /// Sessions from before do not count: a new password ends them.
    pub password_at: Instant,
    /// Whom the login provider means, for a user that it has brought. Nobody else logs in there as this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

/// A secret for programs, in place of a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What it is for, in words.
    pub name: String,
    /// The SHA-256 of the secret, in hexadecimal digits.
    pub hash: String,
    /// What it may do.
    pub grants: Grants,
    /// Whose it is: it may never do more than they may, and ends with them. `None`: nobody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserName>,
    /// When it was made.
    pub created_at: Instant,
    /// From then on it is refused. `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Instant>,
}

/// Somebody who is logged in. Its key is on a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Who.
    pub user: UserName,
    /// The SHA-256 of the secret, in hexadecimal digits.
    pub hash: String,
    /// When they logged in.
    pub created_at: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_never_include_more_than_they_are() {
        let group = |name: &str| GroupName::new(name).expect("valid");
        let only = |name: &str, role| Grants { everywhere: None, groups: [(group(name), role)].into() };
        let editors = Grants::everywhere(Role::Editor);
        assert!(editors.include(&only("a", Role::Editor)) && editors.include(&Grants::default()));
        assert!(
            !editors.include(&only("a", Role::Admin)) && !editors.include(&Grants::everywhere(Role::Admin))
        );
        assert!(!only("a", Role::Admin).include(&only("b", Role::Viewer)));
        assert!(!only("a", Role::Admin).include(&Grants::everywhere(Role::Viewer)));
        let both = only("a", Role::Admin).within(&Grants::everywhere(Role::Viewer));
        assert_eq!(both, only("a", Role::Viewer), "None is less than every role");
        assert_eq!(only("a", Role::Admin).within(&only("b", Role::Admin)), Grants::default());
        assert_eq!(only("a", Role::Admin).somewhere(), Some(Role::Admin));
        assert_eq!(only("a", Role::Admin).in_group(&group("b")), None);
    }
}
