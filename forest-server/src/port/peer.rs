//! Who is at the other end of a connection, and what they show of themselves.

use std::net::SocketAddr;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

use crate::access::Credentials;

/// The cookie of a session. The prefix makes browsers refuse it from other hosts and paths.
pub(crate) const SESSION_COOKIE: &str = "forest_session";
/// What a page of ours sends with every change.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    address: SocketAddr,
    /// The first name in its certificate, if it showed one that our authority has signed.
    certificate: Option<String>,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, certificate: Option<String>) -> Self {
        Self { address, certificate }
    }

    pub(crate) fn address(&self) -> String {
        self.address.ip().to_canonical().to_string()
    }

    /// What a call shows: a token before a session before a certificate.
    pub(crate) fn credentials<'a>(
        peer: Option<&'a Self>,
        authorization: Option<&'a [u8]>,
    ) -> Credentials<'a> {
        if let Some(header) = authorization {
            // A header that is there and is none of ours is refused, not overlooked.
            let text = std::str::from_utf8(header).unwrap_or_default();
            let bearer = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            return Credentials::Bearer(bearer.map_or("", |(_, token)| token.trim()));
        }
        match peer.and_then(|peer| peer.certificate.as_deref()) {
            Some(name) => Credentials::Certificate(name),
            None => Credentials::None,
        }
    }

    /// The same of an HTTP request, which may also have a session.
    pub(crate) fn credentials_of<'a>(peer: Option<&'a Self>, headers: &'a HeaderMap) -> Credentials<'a> {
        let authorization = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        match (authorization, session(headers)) {
            (None, Some(session)) => Credentials::Session(session),
            (authorization, _) => Self::credentials(peer, authorization),
        }
    }
}

/// The session's cookie among all cookies.
pub(crate) fn session(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.into_iter().find(|(name, _)| *name == SESSION_COOKIE).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(http::HeaderName, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), http::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_token_goes_before_a_session_before_a_certificate() {
        let address = "[::ffff:10.0.0.1]:5".parse().expect("an address");
        let peer = Peer::new(address, Some("ci".into()));
        assert_eq!(peer.address(), "10.0.0.1");
        let both = headers(&[(AUTHORIZATION, "bearer  t "), (COOKIE, "a=b; forest_session=s")]);
        assert_eq!(Peer::credentials_of(Some(&peer), &both), Credentials::Bearer("t"));
        let cookie = headers(&[(COOKIE, "a=b;forest_session=s")]);
        assert_eq!(Peer::credentials_of(Some(&peer), &cookie), Credentials::Session("s"));
        assert_eq!(Peer::credentials_of(Some(&peer), &HeaderMap::new()), Credentials::Certificate("ci"));
        assert_eq!(Peer::credentials_of(None, &HeaderMap::new()), Credentials::None);
        let basic = headers(&[(AUTHORIZATION, "Basic dTpw")]);
        assert_eq!(Peer::credentials_of(Some(&peer), &basic), Credentials::Bearer(""), "refused");
    }
}
