//! Real MariaDB servers: one shared by all tests of a process, private ones for tests that hurt them.
//!
//! Setting up a data folder takes well under a second, so that each instance makes its own; there is no
//! template that could be stale. `FOREST_TEST_MARIADBD` names another server than the installed one.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, MySqlConnection, mysql::MySqlConnectOptions};
use tokio::sync::OnceCell;

use super::{Child, DataDir, ServiceError, free_address, program};
use crate::names::unique;
use crate::wait::within_or_last;

const READY_WITHIN: Duration = Duration::from_secs(60);
const ATTEMPTS: usize = 3;
const PACKAGE: &str = "mariadb-server";
/// Small files; the setup and the server must agree on these.
const STORAGE: [&str; 2] = ["--innodb-log-file-size=8M", "--innodb-data-file-path=ibdata1:4M:autoextend"];

/// One MariaDB server. The user `root` needs no password and gets in from this machine only.
#[derive(Debug)]
pub struct MariaDb {
    child: Child,
    address: SocketAddr,
    _folder: DataDir,
}

/// A database of one test.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its name.
    pub name: String,
    /// How to connect to it, `mysql://...`.
    pub url: String,
}

/// The MariaDB that all tests of this process share, each with a database of its own.
///
/// # Errors
/// If MariaDB is missing or does not start.
pub async fn shared_mariadb() -> Result<&'static MariaDb, ServiceError> {
    static SHARED: OnceCell<MariaDb> = OnceCell::const_new();
    SHARED.get_or_try_init(MariaDb::start).await
}

impl MariaDb {
    /// A private server.
    ///
    /// # Errors
    /// If MariaDB is missing or does not start.
    pub async fn start() -> Result<Self, ServiceError> {
        Self::start_with(&[]).await
    }

    /// A private server with further arguments.
    ///
    /// # Errors
    /// If MariaDB is missing or does not start.
    pub async fn start_with(further: &[String]) -> Result<Self, ServiceError> {
        let server = program("mariadbd", "FOREST_TEST_MARIADBD", PACKAGE)?;
        let folder = DataDir::new("mariadb");
        set_up(&folder).await?;
        let mut attempt = 1;
        let (child, address) = loop {
            let address = free_address();
            let mut arguments = arguments(address, &folder)?;
            arguments.extend(further.iter().map(Into::into));
            let child = Child::new(&format!("mariadbd {address}"), &server, arguments, folder.path());
            child.launch()?;
            match ready(&child, address).await {
                Ok(()) => break (child, address),
                Err(ServiceError::Failed { .. }) if attempt < ATTEMPTS => attempt += 1,
                Err(e) => return Err(e),
            }
        };
        Ok(Self { child, address, _folder: folder })
    }

    /// A new, empty database. It goes when the server goes.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn database(&self, prefix: &str) -> Database {
        let name = unique(prefix);
        let mut connection = connect(self.address).await.expect("MariaDB answers");
        let create = format!("CREATE DATABASE {name} CHARACTER SET utf8mb4");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.expect("a new name");
        // An answer that is not waited for: the server notices the end of the stream as well.
        let _ = connection.close().await;
        Database { url: url(self.address, &name), name }
    }

    /// An account with all rights in a database, which gets in with TLS and a certificate of its own alone.
    ///
    /// # Panics
    /// If the server does not answer, or there is such an account.
    pub async fn account_with_certificate(&self, name: &str, password: &str, database: &Database) {
        let mut connection = connect(self.address).await.expect("MariaDB answers");
        let create = format!(
            "CREATE USER {name}@'127.0.0.1' IDENTIFIED BY '{password}' REQUIRE X509; \
             GRANT ALL ON {}.* TO {name}@'127.0.0.1'",
            database.name
        );
        sqlx::raw_sql(AssertSqlSafe(create)).execute(&mut connection).await.expect("a new account");
        let _ = connection.close().await;
    }

    /// Where clients connect, for a proxy in front of it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Freezes it; connections stay open and nothing answers.
    pub async fn stop(&self) {
        self.child.stop().await;
    }

    /// Lets it go on after [`MariaDb::stop`].
    pub async fn cont(&self) {
        self.child.cont().await;
    }

    /// Kills it. Committed transactions survive.
    pub fn kill(&self) {
        self.child.kill();
    }

    /// Starts it again on the same data and port, after [`MariaDb::kill`], and waits until it answers.
    ///
    /// # Panics
    /// If it does not.
    pub async fn restart(&self) {
        self.child.kill();
        self.child.launch().expect("what ran before starts again");
        if let Err(e) = ready(&self.child, self.address).await {
            panic!("{e}");
        }
    }
}

/// How to connect to a database at an address, which may be a proxy's.
pub fn url(address: SocketAddr, database: &str) -> String {
    format!("mysql://root@{address}/{database}")
}

async fn set_up(folder: &DataDir) -> Result<(), ServiceError> {
    let mut command = Command::new(program("mariadb-install-db", "FOREST_TEST_MARIADB_INSTALL_DB", PACKAGE)?);
    command.arg("--no-defaults").args(user()).args(STORAGE).arg("--skip-test-db");
    command.arg("--auth-root-authentication-method=normal");
    command.args(folders(folder)?);
    let failed = |why: String| ServiceError::failed("mariadb-install-db", why);
    let run =
        tokio::task::spawn_blocking(move || command.output()).await.map_err(|e| failed(e.to_string()))?;
    let output = run.map_err(|e| failed(e.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(failed(format!("{}\n{}", output.status, String::from_utf8_lossy(&said))))
}

/// MariaDB refuses to run as root unless told so.
fn user() -> Option<&'static str> {
    rustix::process::geteuid().is_root().then_some("--user=root")
}

/// A server that starts removes what it takes for its own leftovers from the folder of temporary tables, so
/// that no two may share one.
fn folders(folder: &DataDir) -> Result<[OsString; 2], ServiceError> {
    let (data, temporary) = (folder.path().join("data"), folder.path().join("tmp"));
    std::fs::create_dir_all(&temporary).map_err(|e| ServiceError::failed("mariadb", e))?;
    let argument = |name: &str, path: &Path| OsString::from_iter([name.as_ref(), path.as_os_str()]);
    Ok([argument("--datadir=", &data), argument("--tmpdir=", &temporary)])
}

fn arguments(address: SocketAddr, folder: &DataDir) -> Result<Vec<OsString>, ServiceError> {
    // Must be the first.
    let mut arguments: Vec<OsString> = vec!["--no-defaults".into()];
    arguments.extend(folders(folder)?);
    arguments.extend(user().map(Into::into));
    arguments.extend(STORAGE.map(Into::into));
    arguments.extend([
        format!("--port={}", address.port()).into(),
        format!("--bind-address={}", address.ip()).into(),
    ]);
    let fixed = [
        // In the data folder: a path from the root could be too long for a socket.
        "--socket=mariadb.sock",
        "--pid-file=mariadb.pid",
        "--skip-name-resolve",
        "--skip-log-bin",
        "--skip-performance-schema",
        "--max-connections=600",
        "--innodb-buffer-pool-size=64M",
        "--innodb-doublewrite=0",
        // Survives the death of the server, not that of the machine: all that a test can ask for.
        "--innodb-flush-log-at-trx-commit=2",
    ];
    arguments.extend(fixed.map(Into::into));
    Ok(arguments)
}

async fn connect(address: SocketAddr) -> Result<MySqlConnection, sqlx::Error> {
    let options =
        MySqlConnectOptions::new().host(&address.ip().to_string()).port(address.port()).username("root");
    options.connect().await
}

async fn ready(child: &Child, address: SocketAddr) -> Result<(), ServiceError> {
    let ready = within_or_last(READY_WITHIN, async || match child.exited() {
        Some(status) => Ok(Err(status.to_string())),
        None => connect(address).await.map(Ok),
    });
    let why = match ready.await {
        Ok(Ok(connection)) => {
            let _ = connection.close().await;
            return Ok(());
        }
        Ok(Err(status)) => status,
        Err(last) => last,
    };
    Err(ServiceError::failed("mariadbd", format!("{why}\n{}", child.tail())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::require;

    async fn execute(database: &Database, sql: &'static str) -> Result<(), sqlx::Error> {
        let mut connection = MySqlConnection::connect(&database.url).await?;
        sqlx::raw_sql(sql).execute(&mut connection).await.map(drop)
    }

    #[tokio::test]
    async fn tests_do_not_see_each_others_tables() {
        let mariadb = require!(shared_mariadb().await);
        let (one, other) = (mariadb.database("one").await, mariadb.database("one").await);
        assert_ne!(one.name, other.name);
        execute(&one, "CREATE TABLE t (a INT)").await.expect("create");
        execute(&one, "INSERT INTO t VALUES (1)").await.expect("insert");
        assert!(execute(&other, "INSERT INTO t VALUES (1)").await.is_err());
    }

    #[tokio::test]
    async fn a_private_mariadb_survives_being_frozen_and_killed() {
        let mariadb = require!(MariaDb::start().await);
        let database = mariadb.database("hurt").await;
        execute(&database, "CREATE TABLE t (a INT)").await.expect("create");
        execute(&database, "INSERT INTO t VALUES (1)").await.expect("insert");
        mariadb.stop().await;
        let frozen = tokio::time::timeout(Duration::from_millis(300), execute(&database, "SELECT 1")).await;
        assert!(frozen.is_err(), "a frozen server answers nothing");
        mariadb.cont().await;
        mariadb.kill();
        assert!(execute(&database, "SELECT 1").await.is_err());
        mariadb.restart().await;
        let mut connection = MySqlConnection::connect(&database.url).await.expect("connect");
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM t").fetch_one(&mut connection).await.expect("count");
        assert_eq!(count, 1, "what was committed is there");
    }
}
