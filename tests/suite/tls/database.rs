//! TLS to the database.

use std::time::Duration;

use forest_tests::names::{key_root, unique};
use forest_tests::process::{ServerOptions, ServerProcess};
use forest_tests::services::{Authority, MariaDb, available, shared_etcd};

use super::text;

#[tokio::test(flavor = "multi_thread")]
async fn the_history_is_kept_in_a_database_that_wants_tls_and_a_certificate() {
    let Some(etcd) = available(shared_etcd().await) else { return };
    let (own, clients) = (Authority::new(), Authority::new());
    let certificate = own.sign(&["localhost", "127.0.0.1"]);
    let files = [("cert", &certificate.cert), ("key", &certificate.key), ("ca", &clients.file().to_owned())];
    let further = files.map(|(name, file)| format!("--ssl-{name}={}", file.display()));
    let Some(mariadb) = available(MariaDb::start_with(&further).await) else { return };
    let database = mariadb.database("forest").await;
    mariadb.account_with_certificate("forest", "of-the-test", &database).await;

    let shown = clients.sign(&["forest-node"]);
    let start = |trusted: &Authority, own_certificate: bool| {
        let mut url = format!(
            "mysql://forest:of-the-test@{}/{}?ssl-mode=VERIFY_IDENTITY&ssl-ca={}",
            mariadb.address(),
            database.name,
            text(trusted.file())
        );
        if own_certificate {
            url += &format!("&ssl-cert={}&ssl-key={}", text(&shown.cert), text(&shown.key));
        }
        let options = ServerOptions::new(vec![etcd.endpoint()], &key_root("forest"), &url, &unique("node"));
        ServerProcess::start(&ServerOptions { log_level: "info".into(), ..options }).expect("the node starts")
    };
    let good = start(&own, true);
    good.wait_for_line("the history database is ready", Duration::from_secs(60)).await;
    let stranger = Authority::new();
    for (what, node) in [
        ("an authority that is not trusted", start(&stranger, true)),
        ("no certificate of our own", start(&own, false)),
    ] {
        let line = node.wait_for_line("waiting for the history database", Duration::from_secs(60)).await;
        assert!(!line.contains("of-the-test"), "{what}: no password in a log: {line}");
        assert!(!node.output().contains("the history database is ready"), "{what}");
    }
}
