//! Where a development Forest keeps its data: a folder of the user's, or one that goes away with it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use tempfile::TempDir;

/// A folder. A temporary one is removed when this is dropped.
pub(super) struct Home {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Home {
    pub(super) fn new(kept: Option<&Path>) -> anyhow::Result<Self> {
        let Some(kept) = kept else {
            let folder = tempfile::Builder::new().prefix("forest-dev-").tempdir();
            let folder = folder.context("cannot create a temporary folder")?;
            return Ok(Self { path: folder.path().to_owned(), temporary: Some(folder) });
        };
        let cannot = || format!("--data: cannot use {}", kept.display());
        std::fs::create_dir_all(kept).with_context(cannot)?;
        Ok(Self { path: kept.canonicalize().with_context(cannot)?, temporary: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    pub(super) fn etcd_file(&self) -> PathBuf {
        self.path.join("etcd.data")
    }

    /// The history's address.
    pub(super) fn db_url(&self) -> anyhow::Result<String> {
        let path = self.path.join("history.db");
        let path = path.to_str().with_context(|| format!("--data: {} is not UTF-8", path.display()))?;
        Ok(format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_folder_goes_away_and_a_given_one_stays() {
        let outer = Home::new(None).expect("a folder");
        assert!(outer.is_temporary() && outer.path().is_dir());
        let inner = outer.path().join("50%?/deep");
        let kept = Home::new(Some(&inner)).expect("created");
        assert!(!kept.is_temporary());
        let url: crate::store::DbUrl = kept.db_url().expect("text").parse().expect("an address");
        assert!(url.is_sqlite() && url.to_string().contains("deep/history.db"), "{url}");
        drop(kept);
        assert!(inner.is_dir());
        let path = outer.path().to_owned();
        drop(outer);
        assert!(!path.exists());
    }
}
