//! Who calls, and what they may do.
//!
//! Owns the ways to say who one is (password and session, token, client certificate, login provider), the secrets behind them, and
//! the comparison of a role with what an operation needs. What an operation needs is said by the operation itself,
//! in [`crate::admin`], on the group of what is stored: no face decides it.
//!
//! Invariants:
//! * No secret is stored or shown again: tokens and sessions as SHA-256, passwords as argon2id.
//! * A secret that is wrong, expired, disabled or of nobody any more is refused alike.
//! * Nobody can grant what they don't have.

mod caller;
mod gate;
mod oidc;
mod proof;
mod secret;

pub(crate) use caller::{Caller, Denied, Scope, Who};
pub use gate::Login;
pub(crate) use gate::{Credentials, Gate, LoggedIn, LoginError, SESSION};
pub(crate) use oidc::{Attempt, Oidc, OidcError, is_safe as is_safe_for_logins};
pub use oidc::{OidcSettings, RoleMap};
pub(crate) use proof::Proof;
pub(crate) use secret::{Secret, hash_password, hash_text};
