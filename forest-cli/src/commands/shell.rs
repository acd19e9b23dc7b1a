//! `completion` and `man`: what the command line says of itself. No server is asked.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::args::Cli;
use crate::console::Console;
use crate::error::Failure;

const NAME: &str = "forest-cli";

pub(super) fn completion(shell: Shell, console: &mut Console) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    console.print(&String::from_utf8_lossy(&script))
}

/// The page of the program, or of the command that these words name.
pub(super) fn man(words: &[String], console: &mut Console) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    let mut name = NAME.to_owned();
    for word in words {
        let found = command.find_subcommand(word).cloned();
        command = found.ok_or_else(|| Failure::usage(format!("{name} has no command {word:?}")))?;
        name = format!("{name}-{word}");
    }
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command).title(name).render(&mut page);
    rendered.map_err(|error| Failure::refused(format!("cannot write the page: {error}")))?;
    console.print(&String::from_utf8_lossy(&page))
}

#[cfg(test)]
mod tests {
    use crate::error::Exit;
    use crate::fake::cli_around;
    use crate::settings::Surroundings;

    async fn stdout(line: &[&str]) -> String {
        let ran = cli_around(line, &Surroundings::default()).await;
        assert_eq!((ran.exit, ran.stderr.as_str()), (Exit::Ok, ""), "{line:?}");
        ran.stdout
    }

    #[tokio::test]
    async fn each_shell_completes_the_commands() {
        for (shell, part) in
            [("bash", "complete -F"), ("zsh", "#compdef forest-cli"), ("fish", "complete -c forest-cli")]
        {
            let script = stdout(&["completion", shell]).await;
            assert!(script.contains(part) && script.contains("whoami"), "{shell}: {script}");
        }
    }

    #[tokio::test]
    async fn there_is_a_page_for_the_program_and_for_each_command() {
        let page = stdout(&["man"]).await;
        assert!(page.contains(".TH forest-cli 1") && page.contains("Exit codes:"), "{page}");
        let page = stdout(&["man", "job", "apply"]).await;
        assert!(page.contains(".TH forest-cli-job-apply 1") && page.contains("prune"), "{page}");
        let missing = cli_around(&["man", "jobs"], &Surroundings::default()).await;
        assert_eq!(missing.exit, Exit::Usage);
    }
}
