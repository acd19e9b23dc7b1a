//! Finds out who calls, from what they show.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use forest_etcd::{Outcome, SharedClock, Store, Txn};
use forest_proto::record::{Audit, Face, Grants, Role, Session, User, encode};
use forest_proto::time::Instant;
use forest_proto::{Keyspace, RequestKey, UserName};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use tokio::sync::Semaphore;

use super::caller::{Caller, Who};
use super::oidc::Person;
use super::secret::{self, Secret};
use crate::core::access::Access;
use crate::scheduler::SchedulerHandle;

/// How long somebody stays logged in.
pub(crate) const SESSION: Duration = Duration::from_secs(12 * 3600);
/// Passwords that may be wrong for one user, and from one address, in a minute.
const TRIES_OF_USER: NonZeroU32 = NonZeroU32::new(10).expect("is not 0");
const TRIES_FROM_ADDRESS: NonZeroU32 = NonZeroU32::new(30).expect("is not 0");
/// Names and addresses that are remembered before those are forgotten that have tried nothing for a while.
const REMEMBERED: usize = 10_000;
/// How long a caller waits for this node's view.
const VIEW_PATIENCE: Duration = Duration::from_secs(5);
/// Passwords that are compared at once: each takes 19 MiB.
const COMPARISONS: usize = 2;

/// Whether callers must say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// Everybody who reaches the port may do everything.
    Off,
    On,
}

/// What a caller shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Credentials<'a> {
    None,
    /// A token, or a session that no browser keeps.
    Bearer(&'a str),
    /// What the session's cookie holds.
    Session(&'a str),
    /// The common name of a client certificate that our authority has signed.
    Certificate(&'a str),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    #[error("a login is required: send a token as `Authorization: Bearer ...`, or log in")]
    Required,
    #[error("the token, session or password is wrong, has expired, or its user is disabled")]
    Wrong,
    #[error("too many attempts: wait {0} s")]
    TooMany(u64),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Unavailable(String),
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate {
    inner: Arc<Inner>,
}

struct Inner {
    login: Login,
    store: Store,
    scheduler: SchedulerHandle,
    keys: Keyspace,
    clock: SharedClock,
    of_user: DefaultKeyedRateLimiter<String>,
    from_address: DefaultKeyedRateLimiter<String>,
    comparisons: Semaphore,
}

/// What somebody who has just logged in gets.
pub(crate) struct LoggedIn {
    pub(crate) caller: Caller,
    /// For the cookie.
    pub(crate) session: String,
    pub(crate) expires_at: Instant,
}

impl Gate {
    pub(crate) fn new(
        login: Login,
        store: Store,
        scheduler: SchedulerHandle,
        keys: Keyspace,
        clock: SharedClock,
    ) -> Self {
        let of_user = RateLimiter::keyed(Quota::per_minute(TRIES_OF_USER));
        let from_address = RateLimiter::keyed(Quota::per_minute(TRIES_FROM_ADDRESS));
        let comparisons = Semaphore::new(COMPARISONS);
        let inner = Inner { login, store, scheduler, keys, clock, of_user, from_address, comparisons };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn login_is_on(&self) -> bool {
        self.inner.login == Login::On
    }

    /// Who shows this. Where nobody has to log in, everybody is anonymous and may do everything.
    pub(crate) async fn identify(
        &self,
        shown: Credentials<'_>,
        from: &str,
        face: Face,
    ) -> Result<Caller, LoginError> {
        let caller = |who, grants| Caller { who, grants, from: from.to_owned(), face };
        if self.inner.login == Login::Off {
            return Ok(caller(Who::Anonymous, Grants::everywhere(Role::Admin)));
        }
        let (who, grants) = match shown {
            Credentials::None => return Err(LoginError::Required),
            Credentials::Bearer(text) => match self.by_token(text).await {
                // Programs show a session as they show a token.
                Err(LoginError::Wrong) => {
                    let user = self.by_session(text).await?;
                    (Who::User(user.name), user.grants)
                }
                token => token?,
            },
            Credentials::Session(text) => {
                let user = self.by_session(text).await?;
                (Who::User(user.name), user.grants)
            }
            Credentials::Certificate(name) => {
                let user = self.user(name).await?.ok_or(LoginError::Wrong)?;
                (Who::Certificate(user.name.to_string()), user.grants)
            }
        };
        Ok(caller(who, grants))
    }

    async fn by_token(&self, text: &str) -> Result<(Who, Grants), LoginError> {
        let (id, shown) = Secret::split(text).ok_or(LoginError::Wrong)?;
        let looked = id.clone();
        let found = self.read(move |access| {
            let token = access.tokens.get(&looked)?.clone();
            let user = token.user.as_ref().map(|name| active(access, name));
            Some((token, user))
        });
        let found = found.await?.filter(|(token, _)| secret::matches(shown, &token.hash));
        let (token, user) = found.ok_or(LoginError::Wrong)?;
        if token.expires_at.is_some_and(|at| at.as_ms() <= self.inner.clock.wall_ms()) {
            return Err(LoginError::Wrong);
        }
        let grants = match user {
            None => token.grants,
            // It may never do more than its user may now.
            Some(user) => token.grants.within(&user.ok_or(LoginError::Wrong)?.grants),
        };
        Ok((Who::Token(id), grants))
    }

    async fn by_session(&self, text: &str) -> Result<User, LoginError> {
        let (id, shown) = Secret::split(text).ok_or(LoginError::Wrong)?;
        let found = self.read(move |access| {
            let session = access.sessions.get(&id)?;
            // A new password ends the sessions of the old one.
            let user = active(access, &session.user).filter(|user| user.password_at <= session.created_at)?;
            Some((session.hash.clone(), user))
        });
        let (_, user) =
            found.await?.filter(|(hash, _)| secret::matches(shown, hash)).ok_or(LoginError::Wrong)?;
        Ok(user)
    }

    /// A user who is not disabled.
    async fn user(&self, name: &str) -> Result<Option<User>, LoginError> {
        let Ok(name) = UserName::new(name) else { return Ok(None) };
        self.read(move |access| active(access, &name)).await
    }

    /// Logs somebody in.
    pub(crate) async fn log_in(
        &self,
        name: &str,
        password: &str,
        from: &str,
        face: Face,
    ) -> Result<LoggedIn, LoginError> {
        self.may_try(name, from)?;
        let user = self.user(name).await?;
        // Somebody who is not there takes as long as somebody who is.
        let hash = user.as_ref().map_or_else(|| NOBODY.clone(), |user| user.password.clone());
        let right = self.compare(password.to_owned(), hash).await?;
        let Some(user) = user.filter(|_| right) else {
            let user: String = name.chars().take(64).collect();
            tracing::warn!(?user, from, "a login was refused");
            return Err(LoginError::Wrong);
        };
        self.open_session(user, from, face).await
    }

    /// Lets somebody in for whom the login provider vouches.
    pub(crate) async fn enter(
        &self,
        person: &Person,
        from: &str,
        face: Face,
    ) -> Result<LoggedIn, LoginError> {
        let refused = |why: &str| LoginError::Refused(format!("{}: {why}", person.name));
        let name = person.name.clone();
        let user = self.read(move |access| active(access, &name)).await?;
        let user = user.ok_or_else(|| refused("there is no such user here, or it is disabled"))?;
        // Names may be given to somebody else, subjects are not.
        if user.subject.as_ref().is_some_and(|subject| *subject != person.subject) {
            return Err(refused("this user is somebody else's at the provider"));
        }
        self.open_session(user, from, face).await
    }

    /// For somebody who has proved who they are.
    async fn open_session(&self, user: User, from: &str, face: Face) -> Result<LoggedIn, LoginError> {
        let secret = Secret::random().map_err(|error| LoginError::Unavailable(error.to_string()))?;
        let created_at = Instant::from_ms(self.inner.clock.wall_ms());
        let session = Session { user: user.name.clone(), hash: secret.hash, created_at };
        let caller = Caller { who: Who::User(user.name), grants: user.grants, from: from.to_owned(), face };
        let lease = self.inner.store.grant(SESSION).await;
        let lease = lease.map_err(|error| LoginError::Unavailable(error.to_string()))?;
        let key = self.inner.keys.session(&secret.id);
        // Also against a user who was disabled or deleted a moment ago: whoever uses the session is looked up.
        let txn = Txn::new().absent(key.clone()).put_leased(key, encode(&session), lease);
        self.commit(self.noted(txn, &caller, "session.open", &session.user), "log in").await?;
        let lives = i64::try_from(SESSION.as_millis()).unwrap_or(i64::MAX);
        let expires_at = Instant::from_ms(created_at.as_ms().saturating_add(lives));
        Ok(LoggedIn { caller, session: secret.text, expires_at })
    }

    /// The transaction with the record of it.
    fn noted(&self, txn: Txn, caller: &Caller, action: &str, user: &UserName) -> Txn {
        let at = Instant::from_ms(self.inner.clock.wall_ms());
        let audit = Audit {
            at,
            who: caller.who.to_string(),
            from: caller.from.clone(),
            face: caller.face,
            action: action.into(),
            target: user.to_string(),
            group: None,
            changes: BTreeMap::new(),
        };
        let id = RequestKey::new(format!("{:016x}", fastrand::u64(..)))
            .unwrap_or_else(|_| unreachable!("hexadecimal digits are a valid key"));
        txn.put(self.inner.keys.audit(at, &id), encode(&audit))
    }

    /// Whether this is the password of a caller who has logged in.
    pub(crate) async fn confirm(&self, caller: &Caller, password: &str) -> Result<(), LoginError> {
        let Who::User(name) = &caller.who else { return Ok(()) };
        self.may_try(name.as_str(), &caller.from)?;
        let user = self.user(name.as_str()).await?.ok_or(LoginError::Wrong)?;
        match self.compare(password.to_owned(), user.password).await? {
            true => Ok(()),
            false => Err(LoginError::Wrong),
        }
    }

    /// Whether somebody there may try again without a name.
    pub(crate) fn may_try_from(&self, from: &str) -> Result<(), LoginError> {
        self.limit([self.inner.from_address.check_key(&from.to_owned())])
    }

    fn may_try(&self, name: &str, from: &str) -> Result<(), LoginError> {
        let name: String = name.chars().take(64).collect();
        self.limit([self.inner.of_user.check_key(&name), self.inner.from_address.check_key(&from.to_owned())])
    }

    fn limit<const N: usize>(
        &self,
        checks: [Result<(), NotUntil<<DefaultClock as Clock>::Instant>>; N],
    ) -> Result<(), LoginError> {
        // Names that nobody has may be tried without end.
        for tries in [&self.inner.of_user, &self.inner.from_address] {
            if tries.len() > REMEMBERED {
                tries.retain_recent();
            }
        }
        let waits = checks.into_iter().filter_map(Result::err);
        let wait = waits.map(|not_until| not_until.wait_time_from(DefaultClock::default().now())).max();
        wait.map_or(Ok(()), |wait| Err(LoginError::TooMany(wait.as_secs() + 1)))
    }

    async fn compare(&self, password: String, hash: String) -> Result<bool, LoginError> {
        let unavailable = |error: &dyn std::fmt::Display| LoginError::Unavailable(error.to_string());
        let _turn = self.inner.comparisons.acquire().await.map_err(|error| unavailable(&error))?;
        let compared = tokio::task::spawn_blocking(move || secret::password_matches(&password, &hash));
        compared.await.map_err(|error| unavailable(&error))
    }

    /// Commits, and waits for the view to show it.
    async fn commit(&self, txn: Txn, again: &str) -> Result<(), LoginError> {
        let unavailable = |cause: &dyn std::fmt::Display| LoginError::Unavailable(cause.to_string());
        match self.inner.store.commit(txn).await.map_err(|error| unavailable(&error))? {
            Outcome::Applied { revision } => {
                let shown = self.inner.scheduler.caught_up(revision, VIEW_PATIENCE).await;
                shown.map_err(|error| unavailable(&error))
            }
            Outcome::Refused { .. } | Outcome::Unknown { .. } => {
                Err(unavailable(&format!("etcd did not answer: {again} again")))
            }
        }
    }

    /// Ends a session. `false`: it is none.
    pub(crate) async fn log_out(&self, text: &str, caller: &Caller) -> Result<bool, LoginError> {
        let Some((id, shown)) = Secret::split(text) else { return Ok(false) };
        let (looked, hash) = (id.clone(), secret::hash_text(shown));
        let known = self.read(move |access| access.sessions.get(&looked).cloned()).await?;
        let Some(session) = known.filter(|session| session.hash == hash) else { return Ok(false) };
        let txn = Txn::new().delete(self.inner.keys.session(&id));
        self.commit(self.noted(txn, caller, "session.close", &session.user), "log out").await?;
        Ok(true)
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Access) -> T + Send + 'static,
    ) -> Result<T, LoginError> {
        let unavailable = |error: crate::scheduler::Unanswered| LoginError::Unavailable(error.to_string());
        self.inner.scheduler.caught_up(0, VIEW_PATIENCE).await.map_err(unavailable)?;
        self.inner.scheduler.read(|now| read(&now.view.access)).await.map_err(unavailable)
    }
}

/// A user who is not disabled.
fn active(access: &Access, name: &UserName) -> Option<User> {
    access.users.get(name).filter(|user| !user.disabled).cloned()
}

/// A hash that no password has.
static NOBODY: LazyLock<String> =
    LazyLock::new(|| secret::hash_password(&format!("{:x}", fastrand::u128(..))).unwrap_or_default());
