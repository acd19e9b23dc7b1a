//! Contexts: servers by name, with what is shown to them, in a file that only its owner can read.
//!
//! Of tokens and keys it says where they are. The session of who has logged in is in it.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use forest_proto::language::Language;
use serde::{Deserialize, Serialize};

use crate::error::Failure;

/// Servers, and what is shown to them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Known {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) server: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cert_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lang: Option<Language>,
    /// Goes before the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<Hidden>,
}

/// A secret that no message shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hidden(pub(crate) String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that counts if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Known>,
}

impl Contexts {
    /// None if there is no file yet.
    pub(crate) fn load(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self::default()) };
        let wrong = |what: &dyn std::fmt::Display| {
            Failure::usage(format!("cannot read the contexts in {}: {what}", path.display()))
        };
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| wrong(&error.message())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(wrong(&error)),
        }
    }

    /// Replaces the file at once, so that a reader finds the old one or the new one.
    pub(crate) fn save(&self, path: Option<&Path>) -> Result<(), Failure> {
        let missing = || Failure::usage("there is no place for contexts: set XDG_CONFIG_HOME or HOME");
        let path = path.ok_or_else(missing)?;
        let wrong = |what: &dyn std::fmt::Display| {
            Failure::refused(format!("cannot write the contexts to {}: {what}", path.display()))
        };
        let text = toml::to_string(self).map_err(|error| wrong(&error))?;
        let write = || {
            let folder = path.parent().unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            let beside = path.with_extension(format!("toml.{}", std::process::id()));
            // What a run that was ended left behind may be open to others.
            match std::fs::remove_file(&beside) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(text.as_bytes())?;
            std::fs::rename(&beside, path)
        };
        write().map_err(|error: std::io::Error| wrong(&error))
    }

    /// The context of this name.
    pub(crate) fn get(&self, name: &str) -> Result<&Known, Failure> {
        self.contexts.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
            let names = if names.is_empty() { "there is none yet".to_owned() } else { names.join(", ") };
            Failure::not_found(format!("there is no context {name:?}: {names}"))
        })
    }
}

/// Where the file is: `forest/cli.toml` below `XDG_CONFIG_HOME`, or below `.config` at home.
pub(crate) fn file(config_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    // The specification wants relative ones to be ignored.
    let config_home = config_home.filter(|path| path.is_absolute());
    let folder = config_home.or_else(|| home.map(|home| home.join(".config")))?;
    Some(folder.join("forest").join("cli.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn the_file_is_where_the_desktop_specification_wants_it() {
        let at =
            |config: Option<&str>, home: Option<&str>| file(config.map(Into::into), home.map(Into::into));
        assert_eq!(at(Some("/c"), Some("/h")), Some("/c/forest/cli.toml".into()));
        assert_eq!(at(Some("c"), Some("/h")), Some("/h/.config/forest/cli.toml".into()));
        assert_eq!(at(None, None), None);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_taken_for_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("cli.toml");
        assert_eq!(Contexts::load(Some(&path)).expect("no file"), Contexts::default());
        for broken in ["current = 7", "[contexts.a]\npassword = \"x\"", "["] {
            std::fs::write(&path, broken).expect("written");
            let failure = Contexts::load(Some(&path)).expect_err(broken);
            assert!(failure.exit == Exit::Usage && failure.to_string().contains("cli.toml"), "{failure}");
            assert_eq!(failure.to_string().lines().count(), 1, "{failure}");
        }
    }
}
