//! Waits that look at a state until it is as hoped, and give up with what they last saw.
//!
//! Nothing here counts changes or sleeps for a guessed time: a slow machine makes a test slower, not red.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// What one look at the world says: settled with a value, or not yet.
pub trait Look {
    /// What the wait returns.
    type Value;
    /// `Err` with a description of what was seen instead.
    ///
    /// # Errors
    /// Not an error: the state is not there yet.
    fn settled(self) -> Result<Self::Value, String>;
}

impl Look for bool {
    type Value = ();
    fn settled(self) -> Result<(), String> {
        if self { Ok(()) } else { Err("false".into()) }
    }
}

impl<T> Look for Option<T> {
    type Value = T;
    fn settled(self) -> Result<T, String> {
        self.ok_or_else(|| "none".into())
    }
}

impl<T, E: Display> Look for Result<T, E> {
    type Value = T;
    fn settled(self) -> Result<T, String> {
        self.map_err(|e| e.to_string())
    }
}

/// Looks again and again until `look` is true, `Some` or `Ok`, and returns its value.
///
/// A single look may take as long as it likes within the whole: it is dropped at the end of `within`.
///
/// # Panics
/// After `within`, with `what` and the last thing seen.
#[track_caller]
pub fn eventually<L: Look>(
    what: &str,
    within: Duration,
    look: impl AsyncFnMut() -> L,
) -> impl Future<Output = L::Value> {
    let caller = std::panic::Location::caller();
    async move {
        match within_or_last(within, look).await {
            Ok(value) => value,
            Err(last) => panic!("{what}: not within {within:?}, last seen: {last} (at {caller})"),
        }
    }
}

/// Asserts that a state holds for a while: looks every few milliseconds until `during` is over.
///
/// # Panics
/// As soon as `look` says no.
pub async fn holds<L: Look>(what: &str, during: Duration, mut look: impl AsyncFnMut() -> L) {
    let end = Instant::now() + during;
    while Instant::now() < end {
        if let Err(seen) = look().await.settled() {
            panic!("{what}: did not hold, saw {seen}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// As [`eventually`], for callers that have more to say about a failure.
///
/// # Errors
/// What was seen last.
pub async fn within_or_last<L: Look>(
    within: Duration,
    mut look: impl AsyncFnMut() -> L,
) -> Result<L::Value, String> {
    let mut last = "nothing: the first look did not come back".to_owned();
    let mut pause = Duration::from_millis(2);
    let looking = async {
        loop {
            match look().await.settled() {
                Ok(value) => break value,
                Err(seen) => last = seen,
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    };
    let settled = tokio::time::timeout(within, looking).await;
    settled.map_err(|_| last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_ends_with_the_value_or_with_what_was_seen() {
        let mut looks = 0;
        let value = eventually("three looks", Duration::from_secs(5), async || {
            looks += 1;
            if looks == 3 { Ok("there") } else { Err(format!("look {looks}")) }
        });
        assert_eq!(value.await, "there");
        let last = within_or_last(Duration::from_millis(30), async || Err::<(), _>("still dark")).await;
        assert_eq!(last, Err("still dark".to_owned()));
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_cut_off() {
        let hung = within_or_last(Duration::from_millis(30), std::future::pending::<bool>).await;
        assert!(hung.is_err());
    }
}
