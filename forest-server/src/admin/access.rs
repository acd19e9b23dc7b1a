//! Users, tokens and the audit.
//!
//! Nobody grants what they don't have, and the last administrator stays one.

use std::time::Duration;

use forest_etcd::Txn;
use forest_proto::record::{Grants, Role, Token, User, encode};
use forest_proto::time::Instant;
use forest_proto::{SecretId, UserName};

use super::audit::Deed;
use super::validate::short_text;
use super::write::Written;
use super::{Admin, AdminError, Page, PageRequest};
use crate::access::{Caller, Scope, Secret, Who, hash_password};
use crate::core::access::Access;
use crate::store::{AuditFilter, Audited};

const PASSWORD: std::ops::RangeInclusive<usize> = 12..=256;
/// All are in the memory of every node.
const MAX_USERS: usize = 1_000;
const MAX_TOKENS: usize = 10_000;
/// How long the token of a first start counts.
const BOOTSTRAP: Duration = Duration::from_secs(3600);
/// How long a token counts.
const LIVES_MS: i64 = 90 * 24 * 3_600_000;
const LIVES_WITHIN_MS: std::ops::RangeInclusive<i64> = 60_000..=10 * 366 * 24 * 3_600_000;
const BOOTSTRAP_ID: &str = "bootstrap";

/// A user, to be shown without the password's hash.
#[derive(Debug, Clone)]
pub(crate) struct UserSummary(pub(crate) User);

/// A token, to be shown without the secret's hash.
#[derive(Debug, Clone)]
pub(crate) struct TokenSummary {
    pub(crate) id: SecretId,
    pub(crate) token: Token,
}

/// What is changed about a user; `None` stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct UserPatch {
    pub(crate) password: Option<String>,
    pub(crate) grants: Option<Grants>,
    pub(crate) disabled: Option<bool>,
}

impl Admin {
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    pub(crate) async fn users(&self, page: PageRequest) -> Result<Page<UserSummary>, AdminError> {
        self.require(Role::Admin, Scope::Everywhere)?;
        let (size, after) = (page.size()?, page.after::<UserName>()?);
        let users = self.read(move |now| {
            let users = now.view.access.users.after(after.as_ref()).take(size + 1);
            users.map(|(_, user)| UserSummary(user.clone())).collect()
        });
        Ok(Page::of(users.await?, size, |user: &UserSummary| user.0.name.to_string()))
    }

    pub(crate) async fn add_user(
        &self,
        name: &str,
        password: &str,
        grants: Grants,
    ) -> Result<UserSummary, AdminError> {
        self.require(Role::Admin, Scope::Everywhere)?;
        self.may_grant(&grants)?;
        let name = UserName::new(name).map_err(|error| AdminError::invalid("name", error.to_string()))?;
        if self.read(|now| now.view.access.users.len()).await? >= MAX_USERS {
            return Err(AdminError::invalid("name", format!("there are {MAX_USERS} users already")));
        }
        let password = hashed(password).await?;
        let now = self.now();
        let (created_at, password_at) = (now, now);
        let user = User { name, password, grants, disabled: false, created_at, password_at, subject: None };
        self.put_new_user(user).await
    }

    async fn put_new_user(&self, user: User) -> Result<UserSummary, AdminError> {
        let key = self.inner.keys.user(&user.name);
        let txn = Txn::new().absent(key.clone()).put(key, encode(&user));
        // The token of the first start has done its duty.
        let txn = txn.delete(self.bootstrap_key());
        let mut deed = Deed::new("user.add", user.name.as_str(), None).saying("grants", json(&user.grants));
        if let Some(subject) = &user.subject {
            deed = deed.saying("subject", subject.as_str());
        }
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(UserSummary(user)),
            Written::Refused(_) => Err(AdminError::Exists { kind: "user", name: user.name.to_string() }),
        }
    }

    /// Makes sure that somebody whom the login provider knows is a user with these grants. It never takes over a user
    /// that it has not brought.
    pub(crate) async fn provide_user(
        &self,
        name: &UserName,
        subject: &str,
        grants: &Grants,
    ) -> Result<(), AdminError> {
        let wanted = name.clone();
        let found = self.read(move |now| {
            let users = &now.view.access.users;
            let known = users.entry(&wanted).map(|entry| (entry.value.clone(), entry.revision));
            (known, users.len())
        });
        let (known, users) = found.await?;
        let Some((mut user, revision)) = known else {
            if users >= MAX_USERS {
                return Err(AdminError::invalid("name", format!("there are {MAX_USERS} users already")));
            }
            let (now, subject) = (self.now(), Some(subject.to_owned()));
            let (name, password, grants) = (name.clone(), String::new(), grants.clone());
            let (created_at, password_at) = (now, now);
            let user = User { name, password, grants, disabled: false, created_at, password_at, subject };
            return self.put_new_user(user).await.map(drop);
        };
        if user.subject.as_deref() != Some(subject) {
            let why = format!("{name}: there is a user of this name here who is not the provider's");
            return Err(AdminError::Unauthenticated(why));
        }
        if user.grants == *grants || user.disabled {
            return Ok(());
        }
        user.grants = grants.clone();
        let deed = Deed::new("user.edit", name.as_str(), None).saying("grants", json(grants));
        self.put_user(Txn::new(), user, revision, deed).await.map(drop)
    }

    /// Changes what is given of somebody who may not do more than the caller. A new password ends their sessions.
    pub(crate) async fn edit_user(&self, name: &str, patch: UserPatch) -> Result<UserSummary, AdminError> {
        self.require(Role::Admin, Scope::Everywhere)?;
        let (before, revision) = self.user(name).await?;
        // Somebody who may do more than the caller is not changed by it.
        self.may_grant(&before.grants)?;
        let mut user = before.clone();
        if let Some(grants) = patch.grants {
            self.may_grant(&grants)?;
            user.grants = grants;
        }
        user.disabled = patch.disabled.unwrap_or(user.disabled);
        let mut deed = Deed::new("user.edit", name, None);
        if user.grants != before.grants {
            deed = deed.saying("grants", json(&user.grants));
        }
        if user.disabled != before.disabled {
            deed = deed.saying("disabled", user.disabled);
        }
        if let Some(password) = &patch.password {
            (user.password, user.password_at) = (hashed(password).await?, self.now());
            deed = deed.saying("password", "changed");
        }
        let stays = !user.disabled && user.grants.everywhere == Some(Role::Admin);
        let txn = if stays { Txn::new() } else { self.beside_another_admin(&before).await? };
        self.put_user(txn, user, revision, deed).await
    }

    /// The caller's own.
    pub(crate) async fn change_password(&self, new: &str) -> Result<UserSummary, AdminError> {
        let Who::User(name) = &self.caller.who else {
            return Err(AdminError::invalid("password", "only somebody who has logged in has one"));
        };
        let (mut user, revision) = self.user(name.as_str()).await?;
        (user.password, user.password_at) = (hashed(new).await?, self.now());
        let deed = Deed::new("user.edit", name.as_str(), None).saying("password", "changed");
        self.put_user(Txn::new(), user, revision, deed).await
    }

    async fn put_user(
        &self,
        txn: Txn,
        user: User,
        revision: i64,
        deed: Deed<'_>,
    ) -> Result<UserSummary, AdminError> {
        let (key, value) = (self.inner.keys.user(&user.name), encode(&user));
        let txn = txn.modified(key.clone(), revision).put(key, value);
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(UserSummary(user)),
            Written::Refused(_) => Err(AdminError::Conflict { what: format!("user {}", user.name) }),
        }
    }

    pub(crate) async fn delete_user(&self, name: &str) -> Result<(), AdminError> {
        self.require(Role::Admin, Scope::Everywhere)?;
        let (user, revision) = self.user(name).await?;
        self.may_grant(&user.grants)?;
        let key = self.inner.keys.user(&user.name);
        let txn = self.beside_another_admin(&user).await?;
        let txn = txn.modified(key.clone(), revision).delete(key);
        let deed = Deed::new("user.delete", name, None);
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(()),
            Written::Refused(_) => Err(AdminError::Conflict { what: format!("user {name}") }),
        }
    }

    /// A transaction that holds while somebody else is an administrator of everything.
    async fn beside_another_admin(&self, user: &User) -> Result<Txn, AdminError> {
        if user.disabled || user.grants.everywhere != Some(Role::Admin) {
            return Ok(Txn::new());
        }
        let name = user.name.clone();
        let other = self.read(move |now| {
            let users = &now.view.access.users;
            let admins = users.iter().filter(|(other, user)| {
                **other != name && !user.disabled && user.grants.everywhere == Some(Role::Admin)
            });
            admins.map(|(name, _)| name.clone()).next().and_then(|name| {
                let revision = users.entry(&name)?.revision;
                Some((name, revision))
            })
        });
        let (other, revision) = other.await?.ok_or_else(|| {
            AdminError::invalid("name", "is the last administrator: make somebody else one first")
        })?;
        Ok(Txn::new().modified(self.inner.keys.user(&other), revision))
    }

    async fn user(&self, name: &str) -> Result<(User, i64), AdminError> {
        let known = UserName::new(name).ok();
        let found = self.read(move |now| {
            let entry = now.view.access.users.entry(&known?)?;
            Some((entry.value.clone(), entry.revision))
        });
        found.await?.ok_or_else(|| AdminError::not_found("user", name))
    }

    /// Administrators see all, everybody else their own.
    pub(crate) async fn tokens(&self, page: PageRequest) -> Result<Page<TokenSummary>, AdminError> {
        let all = self.require(Role::Admin, Scope::Everywhere).is_ok();
        let own = self.own_name().cloned();
        let (size, after) = (page.size()?, page.after::<SecretId>()?);
        let tokens = self.read(move |now| {
            let tokens = now.view.access.tokens.after(after.as_ref());
            let seen = tokens.filter(|(_, token)| all || (own.is_some() && token.user == own));
            let summary =
                |(id, token): (&SecretId, &Token)| TokenSummary { id: id.clone(), token: token.clone() };
            seen.take(size + 1).map(summary).collect()
        });
        Ok(Page::of(tokens.await?, size, |summary: &TokenSummary| summary.id.to_string()))
    }

    /// A token of the caller's own; of nobody's, if it is made by an administrator who has not logged in by name.
    pub(crate) async fn add_token(
        &self,
        name: &str,
        grants: Grants,
        lives_ms: Option<i64>,
    ) -> Result<(TokenSummary, String), AdminError> {
        let user = self.own_name().cloned();
        if user.is_none() {
            self.require(Role::Admin, Scope::Everywhere)?;
        }
        self.may_grant(&grants)?;
        let name = short_text("name", name, 128)?;
        if name.trim().is_empty() {
            return Err(AdminError::invalid("name", "is required: say what the token is for"));
        }
        if self.read(|now| now.view.access.tokens.len()).await? >= MAX_TOKENS {
            return Err(AdminError::invalid("name", format!("there are {MAX_TOKENS} tokens already")));
        }
        let (now, lives_ms) = (self.now(), lives_ms.unwrap_or(LIVES_MS));
        if !LIVES_WITHIN_MS.contains(&lives_ms) {
            return Err(AdminError::invalid("lives_ms", "must be from one minute to ten years"));
        }
        let expires_at = Some(Instant::from_ms(now.as_ms().saturating_add(lives_ms)));
        let secret = Secret::random().map_err(|error| AdminError::Unavailable(error.to_string()))?;
        let token = Token { name, hash: secret.hash, grants, user, created_at: now, expires_at };
        let (key, value) = (self.inner.keys.token(&secret.id), encode(&token));
        let txn = Txn::new().absent(key.clone()).put(key, value);
        let deed = Deed::new("token.add", secret.id.as_str(), None)
            .saying("name", token.name.as_str())
            .saying("grants", json(&token.grants));
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok((TokenSummary { id: secret.id, token }, secret.text)),
            Written::Refused(_) => Err(AdminError::Conflict { what: "the token".into() }),
        }
    }

    pub(crate) async fn revoke_token(&self, id: &str) -> Result<(), AdminError> {
        let missing = || AdminError::not_found("token", id);
        let known = SecretId::new(id).map_err(|_| missing())?;
        let looked = known.clone();
        let found = self.read(move |now| {
            let entry = now.view.access.tokens.entry(&looked)?;
            Some((entry.value.user.clone(), entry.revision))
        });
        let (user, revision) = found.await?.ok_or_else(missing)?;
        if user.is_none() || user.as_ref() != self.own_name() {
            self.require(Role::Admin, Scope::Everywhere)?;
        }
        let key = self.inner.keys.token(&known);
        let txn = Txn::new().modified(key.clone(), revision).delete(key);
        let deed = Deed::new("token.revoke", id, None);
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(()),
            Written::Refused(_) => Err(AdminError::Conflict { what: format!("token {id}") }),
        }
    }

    /// The secret of a token with which the first administrator is made; `None` if somebody can log in already, or
    /// another node has made one within the hour.
    pub(crate) async fn bootstrap(&self) -> Result<Option<String>, AdminError> {
        let taken = |access: &Access| access.users.len() + access.tokens.len() > 0;
        if self.read(move |now| taken(&now.view.access)).await? {
            return Ok(None);
        }
        let secret = Secret::random().map_err(|error| AdminError::Unavailable(error.to_string()))?;
        let token = Token {
            name: "first start".into(),
            hash: secret.hash,
            grants: Grants::everywhere(Role::Admin),
            user: None,
            created_at: self.now(),
            expires_at: None,
        };
        let (key, value) = (self.bootstrap_key(), encode(&token));
        let lease = self.inner.store.grant(BOOTSTRAP).await?;
        let txn = Txn::new().absent(key.clone()).put_leased(key, value, lease);
        let deed = Deed::new("token.add", BOOTSTRAP_ID, None);
        match self.commit(self.audited(txn, deed)).await? {
            Written::Done => Ok(Some(secret.text.replacen(secret.id.as_str(), BOOTSTRAP_ID, 1))),
            Written::Refused(_) => Ok(None),
        }
    }

    fn bootstrap_key(&self) -> String {
        let id = SecretId::new(BOOTSTRAP_ID).unwrap_or_else(|_| unreachable!("a constant id is valid"));
        self.inner.keys.token(&id)
    }

    fn own_name(&self) -> Option<&UserName> {
        match &self.caller.who {
            Who::User(name) => Some(name),
            _ => None,
        }
    }

    fn may_grant(&self, grants: &Grants) -> Result<(), AdminError> {
        if self.caller.grants.include(grants) {
            return Ok(());
        }
        Err(AdminError::invalid("grants", "are more than you have yourself"))
    }

    /// Who changed what, newest first.
    pub(crate) async fn audits(
        &self,
        mut filter: AuditFilter,
        page: PageRequest,
    ) -> Result<Page<Audited>, AdminError> {
        match &filter.group {
            Some(group) => {
                let group = forest_proto::GroupName::new(group)
                    .map_err(|error| AdminError::invalid("group", error.to_string()))?;
                self.require_in(Role::Admin, &group)?;
            }
            None => self.require(Role::Admin, Scope::Everywhere)?,
        }
        let size = page.size()?;
        filter.before = Some(page.token).filter(|token| !token.is_empty());
        let audits = self.inner.history.audits(&filter, size + 1).await?;
        Ok(Page::of(audits, size, |audited| audited.id.clone()))
    }
}

fn json(grants: &Grants) -> serde_json::Value {
    serde_json::to_value(grants).unwrap_or_default()
}

async fn hashed(password: &str) -> Result<String, AdminError> {
    if !PASSWORD.contains(&password.chars().count()) {
        let reason = format!("must have {} to {} characters", PASSWORD.start(), PASSWORD.end());
        return Err(AdminError::invalid("password", reason));
    }
    let password = password.to_owned();
    let hashed = tokio::task::spawn_blocking(move || hash_password(&password)).await;
    hashed.map_err(|error| AdminError::Unavailable(error.to_string()))?.map_err(AdminError::Unavailable)
}
