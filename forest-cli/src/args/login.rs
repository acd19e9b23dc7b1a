//! The command line of `login`.

use clap::Args;

#[derive(Debug, Clone, Args)]
#[command(
    after_help = "For example: forest-cli login ann --server https://forest.example:2856 --context prod\n\
                  From then on: forest-cli --context prod job list"
)]
pub(crate) struct LoginCommand {
    /// Who you are.
    pub(crate) user: String,
    /// Read the password from stdin. Without it the password is asked for, and not shown.
    #[arg(long)]
    pub(crate) password_stdin: bool,
}
