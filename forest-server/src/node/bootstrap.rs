//! The way in on a first start: while there is neither a user nor a token, one token for one hour, shown once.

use std::io::Write;

use forest_etcd::Backoff;
use tokio_util::sync::CancellationToken;

use crate::admin::Admin;

pub(super) async fn offer(admin: Admin, shutdown: &CancellationToken) {
    let mut backoff = Backoff::default();
    loop {
        match admin.bootstrap().await {
            Ok(Some(secret)) => return show(&secret),
            Ok(None) => return,
            Err(error) => tracing::warn!(%error, "cannot look whether somebody can log in: trying again"),
        }
        if !backoff.wait(shutdown).await {
            return;
        }
    }
}

/// Not to the log, which is kept and passed on.
fn show(secret: &str) {
    tracing::info!("nobody can log in yet: a token for the first administrator is on standard error");
    let _ = writeln!(
        std::io::stderr(),
        "\nNobody can log in yet. Within one hour, make the first administrator with this token:\n\n    \
         FOREST_TOKEN={secret} forest-cli user add NAME --role admin\n    \
         forest-cli login NAME\n\nIt ends with that. / 首次启动：请在一小时内用上面的\
         令牌创建第一个管理员，之后令牌失效。\n"
    );
}
