//! Where the servers are and what is shown to them: flags go before the environment, the environment before the
//! context.
//!
//! A secret goes to the servers that it was given for: a context's token and key are not shown to servers that
//! were named in another place, unless the context is asked for by name as well.

use crate::args::Global;
use crate::connect::Api;
use crate::console::Console;
use crate::credentials::Sources;
use crate::error::Failure;

/// Where a server is if nobody says.
const HERE: &str = "http://127.0.0.1:2856";

/// What the process finds around it, besides its command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// `FOREST_TOKEN`.
    pub(crate) token: Option<String>,
}

impl Surroundings {
    /// Of this process.
    pub(crate) fn of_process() -> Self {
        Self { token: std::env::var("FOREST_TOKEN").ok().filter(|token| !token.is_empty()) }
    }
}

/// How the cluster is reached.
pub(crate) fn api(global: &Global, around: &Surroundings, console: &mut Console) -> Result<Api, Failure> {
    let servers = match global.server.is_empty() {
        true => vec![HERE.to_owned()],
        false => global.server.clone(),
    };
    let sources = Sources {
        // A file that is named goes before what happens to be in the environment.
        token: around.token.clone().filter(|_| global.token_file.is_none()),
        token_file: global.token_file.clone(),
        ca_file: global.ca_file.clone(),
        cert_file: global.cert_file.clone(),
        key_file: global.key_file.clone(),
    };
    Ok(Api::new(servers, global.timeout, sources.read(console)?))
}
