//! `server/meta`: the layout and the segment count of a cluster, written by the first node that ever starts.

use forest_etcd::{Backoff, Error, Outcome, Store, Txn};
use forest_proto::record::{Meta, SCHEMA_VERSION, decode, encode};
use forest_proto::time::Instant;
use forest_proto::{Keyspace, SegmentCount};
use tokio_util::sync::CancellationToken;

/// Why this node cannot be part of the cluster.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MetaError {
    #[error("{key} cannot be read ({reason}): is the key root that of another program?")]
    Unreadable { key: String, reason: String },
    #[error(
        "the cluster's data has layout {found}, this program understands up to {SCHEMA_VERSION}: use a newer version"
    )]
    TooNew { found: u32 },
    #[error(transparent)]
    Etcd(#[from] Error),
}

/// The cluster's segment count: what is stored, or `wanted` if this is the first node. Waits for etcd;
/// `None` if the shutdown came first.
pub(crate) async fn settle(
    store: &Store,
    keys: &Keyspace,
    wanted: SegmentCount,
    now: Instant,
    shutdown: &CancellationToken,
) -> Result<Option<SegmentCount>, MetaError> {
    let mut backoff = Backoff::default();
    let meta =
        Meta { schema: SCHEMA_VERSION, segments: u16::try_from(wanted.get()).unwrap_or(0), created_at: now };
    let key = keys.meta();
    loop {
        let txn = Txn::new().absent(key.clone()).put(key.clone(), encode(&meta)).or_get(key.clone());
        match store.commit(txn).await {
            Ok(Outcome::Applied { .. }) => return check(&key, &meta, wanted),
            Ok(Outcome::Refused { found, .. }) => {
                if let Some(kv) = found.into_iter().next().flatten() {
                    let stored = decode(&kv.value);
                    let stored = stored.map_err(|error| MetaError::Unreadable {
                        key: key.clone(),
                        reason: error.to_string(),
                    })?;
                    return check(&key, &stored, wanted);
                }
            }
            Ok(Outcome::Unknown { cause }) => tracing::warn!(cause, "waiting for etcd"),
            Err(error @ Error::Unavailable { .. }) => tracing::warn!(%error, "waiting for etcd"),
            Err(error) => return Err(error.into()),
        }
        if !backoff.wait(shutdown).await {
            return Ok(None);
        }
    }
}

fn check(key: &str, meta: &Meta, wanted: SegmentCount) -> Result<Option<SegmentCount>, MetaError> {
    if meta.schema > SCHEMA_VERSION {
        return Err(MetaError::TooNew { found: meta.schema });
    }
    let count = SegmentCount::new(meta.segments);
    let count = count.ok_or_else(|| MetaError::Unreadable {
        key: key.to_owned(),
        reason: format!("{} segments", meta.segments),
    })?;
    if count != wanted {
        tracing::warn!(
            stored = count.get(),
            configured = wanted.get(),
            "the cluster keeps its segment count"
        );
    }
    Ok(Some(count))
}
