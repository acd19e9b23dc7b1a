//! `with-mariadb COMMAND ...`: runs a command with a MariaDB of its own, whose URL is in `FOREST_TEST_MYSQL`.
//!
//! For the server's own tests of its SQL, which cannot use this package's harness. Where MariaDB is not installed the
//! command runs without: the tests then say that they are skipped, or fail in CI.

use std::process::{Command, ExitCode};

use forest_tests::services::MariaDb;

#[tokio::main]
async fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: with-mariadb COMMAND [ARGUMENT ...]");
        return ExitCode::from(2);
    };
    let mut command = Command::new(program);
    command.args(words);
    let mariadb = MariaDb::start().await;
    match &mariadb {
        Ok(server) => {
            command.env("FOREST_TEST_MYSQL", format!("mysql://root@{}", server.address()));
        }
        Err(error) => eprintln!("without MariaDB: {error}"),
    }
    match command.status() {
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)),
        Err(error) => {
            eprintln!("with-mariadb: {error}");
            ExitCode::FAILURE
        }
    }
}
