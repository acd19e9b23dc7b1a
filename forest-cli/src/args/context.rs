//! The command line of `context`.

use clap::Subcommand;

#[derive(Debug, Clone, Subcommand)]
pub(crate) enum ContextCommand {
    /// Lists the contexts.
    List,
    /// Makes a context the one that counts where no server is named.
    Use { name: String },
    /// Stores a context, or changes the given parts of one: --server, --token-file, --ca-file, --cert-file,
    /// --key-file. The first one is used from then on.
    #[command(
        after_help = "For example: forest-cli context set prod --server https://forest.example:2856 --token-file ~/.forest-token"
    )]
    Set { name: String },
    /// Forgets a context. The files that it names stay.
    Delete { name: String },
}
