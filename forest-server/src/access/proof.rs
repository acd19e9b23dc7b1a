//! What somebody has shown, kept for as long as they listen: it may cease to count meanwhile.

use forest_proto::record::Face;

use super::caller::Caller;
use super::gate::{Credentials, Gate, LoginError};

/// Of what a caller has shown, a copy.
pub(crate) struct Proof {
    gate: Gate,
    shown: Shown,
    from: String,
    face: Face,
}

enum Shown {
    Nothing,
    Bearer(String),
    Session(String),
    Certificate(String),
}

impl Proof {
    pub(crate) fn new(gate: &Gate, shown: Credentials<'_>, from: String, face: Face) -> Self {
        let shown = match shown {
            Credentials::None => Shown::Nothing,
            Credentials::Bearer(text) => Shown::Bearer(text.to_owned()),
            Credentials::Session(text) => Shown::Session(text.to_owned()),
            Credentials::Certificate(name) => Shown::Certificate(name.to_owned()),
        };
        Self { gate: gate.clone(), shown, from, face }
    }

    /// Whether anybody has to show anything.
    pub(crate) fn is_asked_for(&self) -> bool {
        self.gate.login_is_on()
    }

    /// Who that is now, and what they may do now.
    pub(crate) async fn caller(&self) -> Result<Caller, LoginError> {
        let shown = match &self.shown {
            Shown::Nothing => Credentials::None,
            Shown::Bearer(text) => Credentials::Bearer(text),
            Shown::Session(text) => Credentials::Session(text),
            Shown::Certificate(name) => Credentials::Certificate(name),
        };
        self.gate.identify(shown, &self.from, self.face).await
    }
}
