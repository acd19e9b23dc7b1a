//! Names that become part of a key: validated once, here, and carried as types from then on.
//!
//! The grammar is `[A-Za-z0-9][A-Za-z0-9._-]*` up to a length per kind, so that no name can contain a
//! slash, a control character or a sequence that another program might interpret. A group can
//! additionally not be called what the keyspace uses itself (`snapshot`, `execute`, `cancel`).

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a name was refused. The text names the kind of name, the reason and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {shown:?} {reason}")]
pub struct NameError {
    kind: &'static str,
    shown: String,
    reason: &'static str,
}

impl NameError {
    /// What was being named: `group`, `target`, `client`, `node`, `job id`, `calendar`, `user`, `token id`,
    /// `shared name` or `idempotency key`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }
}

/// Group names that would be mistaken for a part of the keyspace.
pub const RESERVED_GROUPS: [&str; 3] = ["snapshot", "execute", "cancel"];

fn refuse(kind: &'static str, text: &str, reason: &'static str) -> NameError {
    // A refused name may be megabytes of anything: show its beginning only.
    let shown = text.chars().take(40).collect();
    NameError { kind, shown, reason }
}

fn check(kind: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    let refuse = |reason| Err(refuse(kind, text, reason));
    if text.is_empty() {
        return refuse("is empty");
    }
    if text.len() > max {
        return refuse("is too long: at most 63 characters (32 for a job id, 128 for a shared name)");
    }
    if !text.as_bytes()[0].is_ascii_alphanumeric() {
        return refuse("must begin with a letter A-Z, a-z or a digit 0-9");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !text.bytes().all(allowed) {
        return refuse("may contain only A-Z, a-z, 0-9, '.', '_' and '-'");
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $max:literal $(, $extra:expr)?) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        #[cfg_attr(feature = "rest", derive(utoipa::ToSchema), schema(value_type = String))]
        pub struct $name(Arc<str>);

        impl $name {
            /// Validates `text`.
            ///
            /// # Errors
            /// [`NameError`] says which rule the text breaks.
            pub fn new(text: impl AsRef<str>) -> Result<Self, NameError> {
                let text = text.as_ref();
                check($kind, text, $max)?;
                $(
                    let extra: fn(&str) -> Result<(), NameError> = $extra;
                    extra(text)?;
                )?
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name!(
    /// A set of clients that serve the same targets. At most 63 characters.
    ///
    /// ```
    /// use forest_proto::GroupName;
    /// assert!(GroupName::new("trade").is_ok());
    /// assert!(GroupName::new("a/b").is_err());
    /// assert!(GroupName::new("execute").is_err(), "the keyspace uses this word itself");
    /// ```
    GroupName, "group", 63, |text| match RESERVED_GROUPS.contains(&text) {
        true => Err(refuse("group", text, "is a reserved word: choose another name")),
        false => Ok(()),
    }
);
name!(
    /// The name of a handler: what a job calls on a client. At most 63 characters.
    TargetName, "target", 63
);
name!(
    /// One registration of one worker process. New for every registration, never used again.
    /// At most 63 characters. The original calls it `ip`.
    ClientId, "client", 63
);
name!(
    /// One scheduler process. New for every start. At most 63 characters.
    NodeId, "node", 63
);
name!(
    /// A stored job. Given by the server when the job is created, never used again. At most 32 characters.
    JobId, "job id", 32
);
name!(
    /// A set of days that jobs name. At most 63 characters.
    CalendarName, "calendar", 63
);
name!(
    /// How somebody logs in. At most 63 characters.
    UserName, "user", 63
);
name!(
    /// The public half of a token, or of a session: what it is called in lists. At most 63 characters.
    SecretId, "token id", 63
);
name!(
    /// What makes two submissions of one request the same request. At most 63 characters.
    RequestKey, "idempotency key", 63
);
name!(
    /// What handlers call a lock, a queue or an entry that they share. At most 128 characters.
    ///
    /// ```
    /// use forest_proto::SharedName;
    /// assert!(SharedName::new("import.customers").is_ok());
    /// assert!(SharedName::new("import/customers").is_err());
    /// ```
    SharedName, "shared name", 128
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refusals_say_which_rule_was_broken() {
        let check = |text: &str, part: &str| {
            let error = GroupName::new(text).map(|_| ()).expect_err(text).to_string();
            assert!(error.contains(part) && error.starts_with("group "), "{text:?}: {error}");
        };
        check("", "is empty");
        check("a/b", "may contain only");
        check("..", "must begin with");
        check("a\0", "may contain only");
        check("组", "must begin with");
        check(&"a".repeat(64), "too long");
        check(&"a".repeat(4096), "too long");
        check("snapshot", "reserved");
        check("execute", "reserved");
        check("cancel", "reserved");
        assert!(TargetName::new("cancel").is_ok(), "only groups share a level with these words");
        assert!(JobId::new("a".repeat(33)).is_err());
        assert!(SharedName::new("a".repeat(128)).is_ok() && SharedName::new("a".repeat(129)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_accepted_survives_json(text in "[A-Za-z0-9][A-Za-z0-9._-]{0,62}") {
            let name = TargetName::new(&text).map_err(|e| TestCaseError::fail(e.to_string()))?;
            let json = serde_json::to_string(&name).map_err(|e| TestCaseError::fail(e.to_string()))?;
            prop_assert_eq!(serde_json::from_str::<TargetName>(&json).ok(), Some(name));
        }

        #[test]
        fn nothing_accepted_can_leave_its_place_in_a_key(text in any::<String>()) {
            if let Ok(name) = GroupName::new(&text) {
                prop_assert!(!name.as_str().contains(['/', '\0', ' ']) && name.as_str() != "..");
            }
        }
    }
}
