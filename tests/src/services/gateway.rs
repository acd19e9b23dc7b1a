//! A look into etcd through its HTTP/JSON gateway: an opinion of its own, independent of the client library
//! that is under test.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(10);
/// Keys per page of a listing: what stays below the gateway's own limit of 4 MiB with our values.
const PAGE: usize = 500;

/// One etcd member, seen through its gateway.
#[derive(Debug, Clone)]
pub struct Gateway {
    address: SocketAddr,
    token: Option<String>,
}

/// A key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The value, as text.
    pub value: String,
    /// Revision of its creation.
    pub create_revision: i64,
    /// Revision of its last change.
    pub mod_revision: i64,
    /// Its lease, 0 if none.
    pub lease: i64,
}

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// Nobody answered in time.
    #[error("etcd's gateway did not answer: {0}")]
    Unreachable(String),
    /// etcd said no.
    #[error("etcd refused: {0}")]
    Refused(String),
}

impl Gateway {
    /// The member at `address`, without a user.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, token: None }
    }

    /// The same member as a user.
    ///
    /// # Errors
    /// If the password is wrong or nobody answers.
    pub async fn signed_in(&self, user: &str, password: &str) -> Result<Self, GatewayError> {
        let answer = self.call("auth/authenticate", &json!({"name": user, "password": password})).await?;
        Ok(Self { address: self.address, token: answer["token"].as_str().map(str::to_owned) })
    }

    /// Whether the member is up and has a quorum.
    ///
    /// # Errors
    /// If it is not.
    pub async fn healthy(&self) -> Result<(), GatewayError> {
        let answer = self.http("GET", "/health", "").await?;
        if answer["health"] == "true" { Ok(()) } else { Err(GatewayError::Refused(answer.to_string())) }
    }

    /// Stores a value.
    ///
    /// # Errors
    /// As every call.
    pub async fn put(&self, key: &str, value: &str) -> Result<(), GatewayError> {
        let body = json!({"key": base64(key.as_bytes()), "value": base64(value.as_bytes())});
        self.call("kv/put", &body).await.map(drop)
    }

    /// Reads one key.
    ///
    /// # Errors
    /// As every call.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, GatewayError> {
        let answer = self.call("kv/range", &json!({"key": base64(key.as_bytes())})).await?;
        Ok(answer["kvs"].as_array().and_then(|found| found.first()).map(entry))
    }

    /// Reads all keys that begin with `prefix`, in order. Not at one revision if there are many.
    ///
    /// # Errors
    /// As every call.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>, GatewayError> {
        let end = base64(&end_of(prefix));
        let mut found: Vec<Entry> = Vec::new();
        loop {
            let from = found.last().map_or_else(|| prefix.to_owned(), |last| format!("{}\0", last.key));
            let body = json!({"key": base64(from.as_bytes()), "range_end": end, "limit": PAGE.to_string()});
            let answer = self.call("kv/range", &body).await?;
            let page = answer["kvs"].as_array().cloned().unwrap_or_default();
            found.extend(page.iter().map(entry));
            if page.len() < PAGE {
                return Ok(found);
            }
        }
    }

    /// How many keys begin with `prefix`.
    ///
    /// # Errors
    /// As every call.
    pub async fn count(&self, prefix: &str) -> Result<usize, GatewayError> {
        let (key, end) = (base64(prefix.as_bytes()), base64(&end_of(prefix)));
        let answer =
            self.call("kv/range", &json!({"key": key, "range_end": end, "count_only": true})).await?;
        Ok(usize::try_from(number(&answer["count"])).unwrap_or(0))
    }

    /// Deletes one key; says whether it was there.
    ///
    /// # Errors
    /// As every call.
    pub async fn delete(&self, key: &str) -> Result<bool, GatewayError> {
        let answer = self.call("kv/deleterange", &json!({"key": base64(key.as_bytes())})).await?;
        Ok(number(&answer["deleted"]) > 0)
    }

    /// The store's current revision.
    ///
    /// # Errors
    /// As every call.
    pub async fn revision(&self) -> Result<i64, GatewayError> {
        let answer = self.call("kv/range", &json!({"key": base64(b"\0"), "count_only": true})).await?;
        Ok(number(&answer["header"]["revision"]))
    }

    /// Forgets all history before `revision`.
    ///
    /// # Errors
    /// As every call.
    pub async fn compact(&self, revision: i64) -> Result<(), GatewayError> {
        let body = json!({"revision": revision.to_string(), "physical": true});
        self.call("kv/compaction", &body).await.map(drop)
    }

    /// All leases.
    ///
    /// # Errors
    /// As every call.
    pub async fn leases(&self) -> Result<Vec<i64>, GatewayError> {
        let answer = self.call("lease/leases", &json!({})).await?;
        let leases = answer["leases"].as_array().cloned().unwrap_or_default();
        Ok(leases.iter().map(|lease| number(&lease["ID"])).collect())
    }

    /// Ends a lease and deletes its keys.
    ///
    /// # Errors
    /// As every call.
    pub async fn revoke(&self, lease: i64) -> Result<(), GatewayError> {
        self.call("lease/revoke", &json!({"ID": lease.to_string()})).await.map(drop)
    }

    /// Gives freed space back to the file system.
    ///
    /// # Errors
    /// As every call.
    pub async fn defragment(&self) -> Result<(), GatewayError> {
        self.call("maintenance/defragment", &json!({})).await.map(drop)
    }

    /// Lifts all "no space" alarms.
    ///
    /// # Errors
    /// As every call.
    pub async fn disarm(&self) -> Result<(), GatewayError> {
        let alarms = self.call("maintenance/alarm", &json!({"action": "GET"})).await?;
        for alarm in alarms["alarms"].as_array().cloned().unwrap_or_default() {
            let body =
                json!({"action": "DEACTIVATE", "memberID": alarm["memberID"], "alarm": alarm["alarm"]});
            self.call("maintenance/alarm", &body).await?;
        }
        Ok(())
    }

    /// Any call of the gateway, such as `auth/enable`.
    ///
    /// # Errors
    /// If nobody answers within ten seconds, or etcd refuses.
    pub async fn call(&self, path: &str, body: &Value) -> Result<Value, GatewayError> {
        self.http("POST", &format!("/v3/{path}"), &body.to_string()).await
    }

    async fn http(&self, method: &str, path: &str, body: &str) -> Result<Value, GatewayError> {
        let authorization =
            self.token.as_ref().map_or_else(String::new, |t| format!("Authorization: {t}\r\n"));
        // Version 1.0 keeps the answer free of chunks and trailers, and its end is the end of the stream.
        let request = format!(
            "{method} {path} HTTP/1.0\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let unreachable = |why: String| GatewayError::Unreachable(why);
        let answer = tokio::time::timeout(DEADLINE, exchange)
            .await
            .map_err(|_| unreachable("too late".into()))?
            .map_err(|e| unreachable(e.to_string()))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| unreachable(answer.clone()))?;
        if head.split(' ').nth(1) != Some("200") {
            return Err(GatewayError::Refused(body.into()));
        }
        serde_json::from_str(body).map_err(|e| unreachable(e.to_string()))
    }
}

/// The gateway writes 64-bit numbers as text, and leaves out zeros.
fn number(value: &Value) -> i64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn entry(found: &Value) -> Entry {
    let text = |field: &str| {
        let bytes = unbase64(found[field].as_str().unwrap_or_default());
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Entry {
        key: text("key"),
        value: text("value"),
        create_revision: number(&found["create_revision"]),
        mod_revision: number(&found["mod_revision"]),
        lease: number(&found["lease"]),
    }
}

/// The first key after all that begin with `prefix`.
fn end_of(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    match end.last_mut() {
        // UTF-8 has no byte 255, so that there is always a next one.
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let three = [chunk[0], chunk.get(1).copied().unwrap_or(0), chunk.get(2).copied().unwrap_or(0)];
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn unbase64(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .bytes()
        .filter_map(|b| ALPHABET.iter().position(|a| *a == b))
        .filter_map(|d| d.try_into().ok())
        .collect();
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for chunk in digits.chunks(4) {
        let bits = chunk.iter().enumerate().fold(0, |bits, (place, digit)| bits | digit << (18 - 6 * place));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..chunk.len()]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standard_one() {
        for (plain, coded) in
            [("", ""), ("a", "YQ=="), ("ab", "YWI="), ("abc", "YWJj"), ("abcd~?", "YWJjZH4/")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(unbase64(coded), plain.as_bytes());
        }
        assert_eq!(unbase64(&base64(&[0, 255, 128, 7])), [0, 255, 128, 7]);
    }
}
