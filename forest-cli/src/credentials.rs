//! What the program shows to a server, and by what it knows one: the token, and the files for TLS.
//!
//! A secret comes from the environment or from a file, never from the command line, which everybody on the
//! machine can read. It is not shown again, in no message.

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{Request, Status};

use crate::console::Console;
use crate::error::Failure;

const MAX_TOKEN: usize = 4096;
const MAX_PEM: usize = 1 << 20;

/// Where the secrets are. Not to be printed: the token may be in it.
#[derive(Clone, Default)]
pub(crate) struct Sources {
    /// The token itself.
    pub(crate) token: Option<String>,
    /// A session, if there is no token.
    pub(crate) session: Option<String>,
    /// A file with the token, if there is neither.
    pub(crate) token_file: Option<String>,
    /// Certificates in PEM of the authorities that servers are trusted by, in place of the machine's.
    pub(crate) ca_file: Option<String>,
    /// Our certificate in PEM, for servers that ask for one.
    pub(crate) cert_file: Option<String>,
    /// Its key.
    pub(crate) key_file: Option<String>,
}

/// The same, read and ready for use.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    pub(crate) bearer: Bearer,
    /// For servers whose address begins with `https`.
    pub(crate) tls: ClientTlsConfig,
}

impl Sources {
    /// Reads the files.
    pub(crate) fn read(self, console: &mut Console) -> Result<Credentials, Failure> {
        let token = match (self.token, self.session, self.token_file) {
            (Some(token), _, _) => Some((token, "FOREST_TOKEN".to_owned())),
            (None, Some(session), _) => Some((session, "the session of the context".to_owned())),
            (None, None, Some(path)) => {
                Some((console.read_text(&path, MAX_TOKEN)?, format!("the token in {path:?}")))
            }
            (None, None, None) => None,
        };
        let bearer = match token {
            Some((token, origin)) => Bearer::new(token.trim(), &origin)?,
            None => Bearer::default(),
        };
        let mut tls = ClientTlsConfig::new().with_native_roots();
        if let Some(path) = self.ca_file {
            tls = ClientTlsConfig::new()
                .ca_certificate(Certificate::from_pem(console.read_text(&path, MAX_PEM)?));
        }
        tls = match (self.cert_file, self.key_file) {
            (Some(cert), Some(key)) => {
                let cert = console.read_text(&cert, MAX_PEM)?;
                tls.identity(Identity::from_pem(cert, console.read_text(&key, MAX_PEM)?))
            }
            (None, None) => tls,
            _ => return Err(Failure::usage("--cert-file and --key-file belong together: give both")),
        };
        Ok(Credentials { bearer, tls })
    }
}

/// Puts the token on every call.
#[derive(Clone, Default)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl Bearer {
    /// Whether there is a token.
    pub(crate) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    fn new(token: &str, origin: &str) -> Result<Self, Failure> {
        if token.is_empty() {
            return Err(Failure::usage(format!("{origin} is empty")));
        }
        let header: Result<MetadataValue<Ascii>, _> = format!("Bearer {token}").parse();
        let mut header = header.map_err(|_| {
            Failure::usage(format!("{origin} is not a token: it has characters that none has"))
        })?;
        header.set_sensitive(true);
        Ok(Self(Some(header)))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(header) = &self.0 {
            request.metadata_mut().insert("authorization", header.clone());
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;
    use crate::fake::{Fake, Tls};

    fn line(sources: Sources) -> String {
        let failure = sources.read(&mut Console::for_test("")).map(|_| ()).expect_err("wrong");
        assert_eq!(failure.exit, Exit::Usage);
        failure.to_string()
    }

    #[test]
    fn a_wrong_token_is_told_by_where_it_comes_from_and_not_shown() {
        let token = |token: &str| Sources { token: Some(token.to_owned()), ..Sources::default() };
        assert_eq!(line(token(" ")), "FOREST_TOKEN is empty");
        assert_eq!(line(token("a\nb")), "FOREST_TOKEN is not a token: it has characters that none has");
        let missing = Sources { token_file: Some("/nowhere/token".to_owned()), ..Sources::default() };
        assert!(line(missing).starts_with("cannot read \"/nowhere/token\": "));
        let half = Sources { cert_file: Some("c.pem".to_owned()), ..Sources::default() };
        assert_eq!(line(half), "--cert-file and --key-file belong together: give both");
    }

    #[tokio::test]
    async fn the_token_goes_with_every_call_and_a_flag_goes_before_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "forest_2_file\n").expect("written");
        let fake = Fake::start().await;
        assert_eq!(fake.cli_with_token("forest_1_env", &["whoami"]).await.exit, Exit::Ok);
        assert_eq!(fake.state().shown.as_deref(), Some("Bearer forest_1_env"));
        let line = ["whoami", "--token-file", path.to_str().expect("text")];
        assert_eq!(fake.cli_with_token("forest_1_env", &line).await.exit, Exit::Ok);
        assert_eq!(fake.state().shown.as_deref(), Some("Bearer forest_2_file"));
        fake.cli(&["whoami"]).await;
        assert_eq!(fake.state().shown, None);
    }

    #[tokio::test]
    async fn a_server_is_trusted_by_its_authority_alone_and_may_ask_for_ours() {
        let tls = Tls::make();
        let fake = Fake::start_with_tls(&tls).await;
        let (ca, cert, key) = (tls.path("ca.pem"), tls.path("client.pem"), tls.path("client.key"));
        let both = ["--ca-file", &ca, "--cert-file", &cert, "--key-file", &key];
        let ran = fake.cli(&[&["status"][..], &both].concat()).await;
        assert_eq!(ran.exit, Exit::Ok, "{}", ran.stderr);

        let stranger = fake.cli(&["status"]).await;
        assert_eq!(stranger.exit, Exit::Unreachable, "not an authority of this machine");
        assert!(stranger.stderr.contains("certificate"), "{}", stranger.stderr);
        let nobody = fake.cli(&["status", "--ca-file", &ca]).await;
        assert_eq!(nobody.exit, Exit::Unreachable, "the server wants a certificate");
        let plain = Fake::start().await;
        let in_vain = plain.cli(&["status", "--ca-file", &ca]).await;
        assert_eq!((in_vain.exit, plain.state().calls), (Exit::Usage, 0), "it would not be encrypted");
        let broken = fake.cli(&["status", "--ca-file", &key]).await;
        assert_eq!(broken.exit, Exit::Unreachable, "{}", broken.stderr);
    }
}
