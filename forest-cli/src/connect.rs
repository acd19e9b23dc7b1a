//! Calls to the admin API: which server, for how long, and what may be repeated.
//!
//! Servers are tried in the order given. What only reads, or is safe to repeat, moves on to the next
//! server also when a connected one fails. What changes something does not: a lost answer does not
//! mean that nothing happened, and the message says so.

use std::error::Error as _;
use std::time::Duration;

use forest_proto::admin::v1::admin_client::AdminClient;
use tokio::time::timeout;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::credentials::{Bearer, Credentials};
use crate::error::Failure;
use crate::output::printable_line;

/// A page of 200 runs with the largest parameters and results fits.
const MAX_ANSWER: usize = 64 << 20;

/// The stub for calls.
pub(crate) type Client = AdminClient<InterceptedService<Channel, Bearer>>;

/// The cluster's admin API. Clones share a connection, if there is one already.
#[derive(Clone)]
pub(crate) struct Api {
    servers: Vec<String>,
    timeout: Duration,
    credentials: Credentials,
    /// Index of the server in use, or of the next to try.
    at: usize,
    client: Option<Client>,
}

/// Why one server did not do it.
enum Trouble {
    /// It could not be reached or did not answer.
    Silence(String),
    Answer(Status),
}

impl Api {
    /// Connects when it is first needed. `servers` are URLs.
    pub(crate) fn new(servers: Vec<String>, timeout: Duration, credentials: Credentials) -> Self {
        Self { servers, timeout, credentials, at: 0, client: None }
    }

    /// Makes a call that may be repeated. `action` ends the sentence "cannot ...".
    pub(crate) async fn read<T>(
        &mut self,
        action: &str,
        call: impl AsyncFn(Client) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        loop {
            let trouble = match self.call(action, &call).await? {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            let elsewhere = match &trouble {
                Trouble::Silence(_) => true,
                Trouble::Answer(status) => status.code() == Code::Unavailable,
            };
            if !elsewhere {
                return Err(self.failure(action, trouble));
            }
            self.client = None;
            if self.at + 1 >= self.servers.len() {
                let failure = self.failure(action, trouble);
                self.at = 0;
                return Err(failure);
            }
            self.at += 1;
        }
    }

    /// Makes a call that changes something: at most once.
    pub(crate) async fn write<T>(
        &mut self,
        action: &str,
        call: impl AsyncFn(Client) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        match self.call(action, &call).await? {
            Ok(answer) => Ok(answer),
            Err(Trouble::Silence(why)) => {
                let unsure = "it may have been done all the same: look before you repeat it";
                Err(self.failure(action, Trouble::Silence(format!("{why}; {unsure}"))))
            }
            Err(trouble) => Err(self.failure(action, trouble)),
        }
    }

    /// The server in use has failed: the next call goes to another one, if there is one.
    pub(crate) fn leave(&mut self) {
        self.client = None;
        self.at = (self.at + 1) % self.servers.len().max(1);
    }

    async fn call<T>(
        &mut self,
        action: &str,
        call: &impl AsyncFn(Client) -> Result<Response<T>, Status>,
    ) -> Result<Result<T, Trouble>, Failure> {
        let client = self.client(action).await?;
        Ok(match timeout(self.timeout, call(client)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            // Only what failed on our side of the connection has a source.
            Ok(Err(status)) if status.source().is_some() => Err(Trouble::Silence(root(&status))),
            Ok(Err(status)) => Err(Trouble::Answer(status)),
            Err(_) => Err(Trouble::Silence(format!("no answer within {:?}", self.timeout))),
        })
    }

    /// The connected client, or one to the first server from here on that takes a connection.
    async fn client(&mut self, action: &str) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let mut tried = Vec::new();
        while let Some(server) = self.servers.get(self.at) {
            match self.connect(server).await {
                Ok(channel) => {
                    let bearer = self.credentials.bearer.clone();
                    let client = AdminClient::with_interceptor(channel, bearer);
                    let client = client.max_decoding_message_size(MAX_ANSWER);
                    return Ok(self.client.insert(client).clone());
                }
                Err(why) => tried.push(format!("{server} ({why})")),
            }
            self.at += 1;
        }
        // Another call starts from the first one again.
        self.at = 0;
        let tried = tried.join(", ");
        Err(Failure::unreachable(format!(
            "cannot {action}: no server can be reached: {tried} - is it running? see --server"
        )))
    }

    async fn connect(&self, server: &str) -> Result<Channel, String> {
        let mut endpoint = Endpoint::from_shared(server.to_owned())
            .and_then(|endpoint| endpoint.user_agent(concat!("forest-cli/", env!("CARGO_PKG_VERSION"))))
            .map_err(|error| root(&error))?
            .tcp_nodelay(true);
        if server.starts_with("https://") {
            let tls = self.credentials.tls.clone();
            endpoint = endpoint.tls_config(tls).map_err(|error| root(&error))?;
        }
        match timeout(self.timeout, endpoint.connect()).await {
            Ok(connected) => connected.map_err(|error| root(&error)),
            Err(_) => Err(format!("no connection within {:?}", self.timeout)),
        }
    }

    fn failure(&self, action: &str, trouble: Trouble) -> Failure {
        match trouble {
            Trouble::Answer(status) => Failure::from_status(action, &status),
            Trouble::Silence(why) => {
                let server = self.servers.get(self.at).map_or("", String::as_str);
                Failure::unreachable(format!("cannot {action}: {server}: {why}"))
            }
        }
    }
}

/// The innermost cause: the outer ones only say "transport error".
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    printable_line(&cause.to_string())
}

#[cfg(test)]
mod tests {
    use forest_proto::admin::v1::GetClusterRequest;

    use super::*;
    use crate::error::Exit;
    use crate::fake::{Fake, rude_server, silent_server};

    fn api(servers: Vec<String>, timeout: Duration) -> Api {
        Api::new(servers, timeout, Credentials::default())
    }

    async fn node(api: &mut Api) -> Result<String, Failure> {
        let call = async |mut client: Client| client.get_cluster(GetClusterRequest {}).await;
        api.read("get the status", call).await.map(|cluster| cluster.node)
    }

    #[tokio::test]
    async fn the_next_server_is_used_if_one_cannot_be_reached() {
        let fake = Fake::start().await;
        let mut api = api(vec!["http://127.0.0.1:1".into(), fake.url()], Duration::from_secs(5));
        assert_eq!(node(&mut api).await.expect("answers"), "n1");
    }

    #[tokio::test]
    async fn the_next_server_is_asked_if_one_is_frozen_or_has_lost_its_store() {
        let frozen = silent_server().await;
        let (away, fake) = (Fake::start().await, Fake::start().await);
        away.state().refuse_all = Some(Status::unavailable("etcd is away"));
        let servers = vec![frozen.url(), away.url(), fake.url()];
        let mut api = api(servers, Duration::from_secs(1));
        assert_eq!(node(&mut api).await.expect("answers"), "n1");
    }

    #[tokio::test]
    async fn what_does_not_speak_grpc_counts_as_not_there() {
        for words in ["", "HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n"] {
            let ((rude, _serving), fake) = (rude_server(words).await, Fake::start().await);
            let alone = node(&mut api(vec![rude.clone()], Duration::from_secs(5))).await;
            let failure = alone.expect_err("no sensible answer");
            assert_eq!(failure.exit, Exit::Unreachable, "{words:?}: {failure}");
            let mut api = api(vec![rude, fake.url()], Duration::from_secs(5));
            assert_eq!(node(&mut api).await.expect("answers"), "n1");
        }
    }

    #[tokio::test]
    async fn nobody_there_is_told_with_every_address() {
        let servers = vec!["http://127.0.0.1:1".into(), "http://127.0.0.1:2".into()];
        let failure = node(&mut api(servers, Duration::from_secs(5))).await.expect_err("nobody there");
        assert_eq!(failure.exit, Exit::Unreachable);
        let line = failure.to_string();
        let parts = ["cannot get the status", "127.0.0.1:1 (Connection refused", "127.0.0.1:2", "--server"];
        assert!(parts.iter().all(|part| line.contains(part)), "{line}");
    }

    #[tokio::test]
    async fn a_change_without_an_answer_is_not_repeated_and_not_called_failed() {
        let (frozen, fake) = (silent_server().await, Fake::start().await);
        let mut api = api(vec![frozen.url(), fake.url()], Duration::from_millis(200));
        let call = async |mut client: Client| client.get_cluster(GetClusterRequest {}).await;
        let failure = api.write("add the job", call).await.expect_err("no answer");
        assert_eq!(failure.exit, Exit::Unreachable);
        let line = failure.to_string();
        assert!(line.contains("no answer within 200ms; it may have been done"), "{line}");
        assert_eq!(fake.state().calls, 0);
    }
}
