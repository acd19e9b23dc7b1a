//! Which page a browser's request comes from.
//!
//! Other sites can make a browser send requests here: with the cookie of a session, or to a port on loopback that
//! wants no login. So a request that names a page of elsewhere is refused; and where no login is needed, one that
//! was sent to a name of elsewhere, which is how a site reaches loopback by its own name.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{HOST, ORIGIN};
use http::uri::Authority;

/// Whether the page, if there is one, is of this server.
pub(super) fn is_own(headers: &HeaderMap, host: Option<&Authority>) -> bool {
    let Some(origin) = headers.get(ORIGIN) else { return true };
    let origin = origin.to_str().unwrap_or_default();
    let page = origin.split_once("://").map(|(_, authority)| authority);
    match (page, addressed(headers, host)) {
        (Some(page), Some(host)) => page.eq_ignore_ascii_case(&host),
        _ => false,
    }
}

/// Whether it was sent to an address, or to a name that is always this machine's.
pub(super) fn is_plainly_here(headers: &HeaderMap, host: Option<&Authority>) -> bool {
    let Some(text) = addressed(headers, host) else { return true };
    let Ok(authority) = text.parse::<Authority>() else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// HTTP/2 has it in the URI, HTTP/1 in a header.
fn addressed(headers: &HeaderMap, host: Option<&Authority>) -> Option<String> {
    let header = || headers.get(HOST).map(|host| host.to_str().unwrap_or_default().to_owned());
    host.map(ToString::to_string).or_else(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn sent(host: &'static str, origin: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
        headers.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
        headers
    }

    #[test]
    fn pages_of_elsewhere_are_known() {
        assert!(is_own(&sent("localhost:2856", None), None), "no browser");
        assert!(is_own(&sent("localhost:2856", Some("http://localhost:2856")), None));
        assert!(!is_own(&sent("localhost:2856", Some("http://evil.example")), None));
        assert!(!is_own(&sent("localhost:2856", Some("http://localhost:9")), None));
        assert!(!is_own(&sent("localhost:2856", Some("null")), None), "a file, or a sandbox");
        let authority = Authority::from_static("forest.example");
        assert!(is_own(&sent("x", Some("https://forest.example")), Some(&authority)), "HTTP/2");
    }

    #[test]
    fn names_of_elsewhere_are_known() {
        for host in ["localhost:2856", "127.0.0.1:1", "[::1]:2856", "10.1.2.3"] {
            assert!(is_plainly_here(&sent(host, None), None), "{host}");
        }
        for host in ["evil.example:2856", "localhost.evil.example", "127.0.0.1.evil.example", "\u{7f}"] {
            let headers = HeaderMap::from_iter([(
                HOST,
                HeaderValue::from_bytes(host.as_bytes()).unwrap_or(HeaderValue::from_static("?")),
            )]);
            assert!(!is_plainly_here(&headers, None), "{host}");
        }
    }
}
