//! A small provider of OpenID Connect: real HTTP and real signatures, and every lie that a token can tell.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use reqwest::Url;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
    RsaPublicKeyComponents,
};
use ring::{digest, hmac};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub(super) const CLIENT: &str = "forest of the tests";
pub(super) const SECRET: &str = "a secret: with + and %";
/// Nobody connects to it: the test takes the browser's part.
pub(super) const REDIRECT: &str = "http://localhost:9/api/v1/session/oidc/callback";

/// What is wrong with the next tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lie {
    Nothing,
    WrongNonce,
    NoNonce,
    WrongAudience,
    ForOthersToo,
    WrongIssuer,
    Expired,
    NotYet,
    Nobody,
    Unsigned,
    SignedByAnother,
    /// With the public key as if it were a secret one.
    PublicKeyAsSecret,
    ChangedAfterwards,
}

pub(super) struct State {
    pub(super) lie: Lie,
    /// What it says of whoever logs in, beside what every token has.
    pub(super) claims: Value,
    /// ES256 in place of RS256.
    pub(super) elliptic: bool,
    /// Part of the keys' names: another one is another key to who knows the old names.
    pub(super) generation: u32,
    /// Codes with what the browser brought along.
    codes: BTreeMap<String, Granted>,
    issued: u32,
    pub(super) redeemed: u32,
}

struct Granted {
    nonce: String,
    challenge: String,
}

struct Keys {
    rsa: RsaKeyPair,
    elliptic: EcdsaKeyPair,
    another: EcdsaKeyPair,
}

pub(super) struct Provider {
    pub(super) issuer: String,
    state: Arc<Mutex<State>>,
    /// Ends with this value.
    _serving: JoinSet<()>,
}

impl Keys {
    fn new() -> Self {
        let random = SystemRandom::new();
        let elliptic = || {
            let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
            let document = EcdsaKeyPair::generate_pkcs8(kind, &random).expect("a key");
            EcdsaKeyPair::from_pkcs8(kind, document.as_ref(), &random).expect("a key")
        };
        // ring makes no such keys. This one is good for nothing but these tests.
        let pem = include_bytes!("provider-of-the-tests.pem");
        let rsa = PrivatePkcs8KeyDer::from_pem_slice(pem).expect("a key");
        let rsa = RsaKeyPair::from_pkcs8(rsa.secret_pkcs8_der()).expect("a key");
        Self { rsa, elliptic: elliptic(), another: elliptic() }
    }

    fn public(&self, generation: u32) -> Value {
        let rsa = RsaPublicKeyComponents::<Vec<u8>>::from(self.rsa.public());
        let point = self.elliptic.public_key().as_ref();
        json!({"keys": [
            {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": format!("r{generation}"),
                "n": text(&rsa.n), "e": text(&rsa.e)},
            {"kty": "EC", "use": "sig", "crv": "P-256", "kid": format!("e{generation}"),
                "x": text(&point[1..33]), "y": text(&point[33..])},
            {"kty": "a kind of the future", "kid": "f"},
        ]})
    }
}

fn text(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

impl Provider {
    pub(super) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// With TLS, if there is a certificate.
    pub(super) async fn start_with(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let issuer = format!("{scheme}://{}/realm", listener.local_addr().expect("bound"));
        let state = Arc::new(Mutex::new(State {
            lie: Lie::Nothing,
            claims: json!({}),
            elliptic: false,
            generation: 1,
            codes: BTreeMap::new(),
            issued: 0,
            redeemed: 0,
        }));
        let mut serving = JoinSet::new();
        let (shared, name, keys) = (state.clone(), issuer.clone(), Arc::new(Keys::new()));
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One after the other is enough.
                let _ = match &tls {
                    None => serve(stream, &shared, &name, &keys).await,
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => serve(stream, &shared, &name, &keys).await,
                        Err(error) => Err(error),
                    },
                };
            }
        });
        Self { issuer, state, _serving: serving }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one request.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    state: &Mutex<State>,
    issuer: &str,
    keys: &Keys,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length, mut authorization) = (String::new(), 0, String::new());
    stream.read_line(&mut first).await?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_once(": ") {
            None => break,
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().expect("a number");
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => authorization = value.into(),
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let target = first.split(' ').nth(1).unwrap_or_default();
    let (status, answer, location) = answered(state, target, &body, &authorization, issuer, keys);
    let location = location.map(|place| format!("Location: {place}\r\n")).unwrap_or_default();
    let answer = answer.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n",
        answer.len()
    );
    stream.write_all(format!("{head}{location}Connection: close\r\n\r\n{answer}").as_bytes()).await?;
    stream.shutdown().await
}

/// The status, a body in JSON, and where the browser is to go.
fn answered(
    state: &Mutex<State>,
    target: &str,
    body: &[u8],
    authorization: &str,
    issuer: &str,
    keys: &Keys,
) -> (u16, Value, Option<String>) {
    let url = Url::parse("http://x").expect("a URL").join(target).expect("a target");
    let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
    match url.path() {
        "/realm/.well-known/openid-configuration" => (200, described(issuer), None),
        "/realm/keys" => (200, keys.public(state.generation), None),
        "/realm/authorize" => (303, json!({}), Some(state.authorize(&url))),
        "/realm/token" => match state.redeem(body, authorization, issuer, keys) {
            Ok(token) => (200, json!({"access_token": "x", "token_type": "Bearer", "id_token": token}), None),
            Err(error) => (400, json!({"error": error}), None),
        },
        _ => (404, json!({}), None),
    }
}

fn described(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/keys"),
        "response_types_supported": ["code"],
    })
}

fn pairs(query: &str) -> BTreeMap<String, String> {
    let url = Url::parse(&format!("http://x/?{query}")).expect("a query");
    url.query_pairs().into_owned().collect()
}

impl State {
    /// Everybody is let in.
    fn authorize(&mut self, url: &Url) -> String {
        let asked = pairs(url.query().unwrap_or_default());
        for (name, value) in [
            ("response_type", "code"),
            ("client_id", CLIENT),
            ("redirect_uri", REDIRECT),
            ("code_challenge_method", "S256"),
        ] {
            assert_eq!(asked.get(name).map(String::as_str), Some(value), "{asked:?}");
        }
        assert!(asked["scope"].split(' ').any(|scope| scope == "openid"), "{asked:?}");
        self.issued += 1;
        let code = format!("code-{}", self.issued);
        let (nonce, challenge) = (asked["nonce"].clone(), asked["code_challenge"].clone());
        assert!(nonce.len() >= 43 && challenge.len() == 43 && asked["state"].len() >= 43, "{asked:?}");
        self.codes.insert(code.clone(), Granted { nonce, challenge });
        let mut back = Url::parse(REDIRECT).expect("a URL");
        back.query_pairs_mut().append_pair("code", &code).append_pair("state", &asked["state"]);
        back.into()
    }

    fn redeem(
        &mut self,
        body: &[u8],
        authorization: &str,
        issuer: &str,
        keys: &Keys,
    ) -> Result<String, &'static str> {
        let encoded = |text: &str| {
            Url::parse_with_params("http://x", [("", text)]).expect("a URL").query().unwrap_or_default()[1..]
                .to_owned()
        };
        let expected = format!("{}:{}", encoded(CLIENT), encoded(SECRET));
        if authorization != format!("Basic {}", BASE64_STANDARD.encode(expected)) {
            return Err("invalid_client");
        }
        let sent = pairs(&String::from_utf8_lossy(body));
        // A code is good for one time.
        let granted = sent.get("code").and_then(|code| self.codes.remove(code)).ok_or("invalid_grant")?;
        let verifier = sent.get("code_verifier").ok_or("invalid_request")?;
        let challenge = text(digest::digest(&digest::SHA256, verifier.as_bytes()).as_ref());
        if challenge != granted.challenge || sent.get("redirect_uri").map(String::as_str) != Some(REDIRECT) {
            return Err("invalid_grant");
        }
        self.redeemed += 1;
        Ok(self.token(&granted.nonce, issuer, keys))
    }

    fn token(&self, nonce: &str, issuer: &str, keys: &Keys) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let mut claims = json!({
            "iss": issuer, "aud": CLIENT, "sub": "s-1", "nonce": nonce, "iat": now, "exp": now + 300,
        });
        for (name, value) in self.claims.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        match self.lie {
            Lie::WrongNonce => claims["nonce"] = "another".into(),
            Lie::NoNonce => claims["nonce"] = Value::Null,
            Lie::WrongAudience => claims["aud"] = "another client".into(),
            Lie::ForOthersToo => claims["aud"] = json!([CLIENT, "another client"]),
            Lie::WrongIssuer => claims["iss"] = "https://evil.example".into(),
            Lie::Expired => claims["exp"] = (now - 120).into(),
            Lie::NotYet => claims["nbf"] = (now + 3600).into(),
            Lie::Nobody => claims["sub"] = "".into(),
            _ => {}
        }
        let (algorithm, kid) = match (self.lie, self.elliptic) {
            (Lie::Unsigned, _) => ("none", String::new()),
            (Lie::PublicKeyAsSecret, _) => ("HS256", format!("r{}", self.generation)),
            (_, true) | (Lie::SignedByAnother, _) => ("ES256", format!("e{}", self.generation)),
            _ => ("RS256", format!("r{}", self.generation)),
        };
        let header = json!({"alg": algorithm, "kid": kid, "typ": "JWT"});
        let message =
            format!("{}.{}", text(header.to_string().as_bytes()), text(claims.to_string().as_bytes()));
        let signature = self.sign(algorithm, message.as_bytes(), keys);
        let mut token = format!("{message}.{}", text(&signature));
        if self.lie == Lie::ChangedAfterwards {
            claims["sub"] = "s-2".into();
            let (header, signature) = (token.split('.').next(), token.split('.').next_back());
            token = [header, Some(&text(claims.to_string().as_bytes())), signature]
                .map(Option::unwrap_or_default)
                .join(".");
        }
        token
    }

    fn sign(&self, algorithm: &str, message: &[u8], keys: &Keys) -> Vec<u8> {
        let random = SystemRandom::new();
        match algorithm {
            "none" => Vec::new(),
            "HS256" => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, keys.rsa.public().as_ref());
                hmac::sign(&key, message).as_ref().to_vec()
            }
            "ES256" => {
                let key = if self.lie == Lie::SignedByAnother { &keys.another } else { &keys.elliptic };
                key.sign(&random, message).expect("signed").as_ref().to_vec()
            }
            _ => {
                let mut signature = vec![0; keys.rsa.public().modulus_len()];
                keys.rsa.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("signed");
                signature
            }
        }
    }
}
