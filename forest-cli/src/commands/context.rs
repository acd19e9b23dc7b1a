//! `context`: servers by name.

use serde_json::{Value, json};

use crate::args::{ContextCommand, Global};
use crate::console::Console;
use crate::contexts::{Contexts, Known};
use crate::error::Failure;
use crate::output::{List, View, or_dash};
use crate::paging::Listed;
use crate::settings::Surroundings;

pub(super) fn run(
    command: ContextCommand,
    global: &Global,
    around: &Surroundings,
    view: &View,
    console: &mut Console,
) -> Result<(), Failure> {
    let path = around.config.as_deref();
    let mut contexts = Contexts::load(path)?;
    let message = match command {
        ContextCommand::List => return list(contexts, view, console),
        ContextCommand::Use { name } => {
            contexts.get(&name)?;
            let message = format!("context {name} counts from now on");
            contexts.current = Some(name);
            message
        }
        ContextCommand::Set { name } => {
            let known = contexts.contexts.entry(name.clone()).or_default();
            set(known, global)?;
            let message = format!("stored context {name}");
            contexts.current.get_or_insert(name);
            message
        }
        ContextCommand::Delete { name } => {
            contexts.get(&name)?;
            contexts.contexts.remove(&name);
            contexts.current = contexts.current.filter(|current| *current != name);
            format!("deleted context {name}")
        }
    };
    contexts.save(path)?;
    console.note(&message);
    Ok(())
}

/// Stores the given parts.
pub(super) fn set(known: &mut Known, global: &Global) -> Result<(), Failure> {
    if !global.server.is_empty() && known.server != global.server {
        // A session is shown only to those who gave it.
        known.session = None;
        known.server.clone_from(&global.server);
    }
    known.lang = global.lang.or(known.lang);
    let files = [
        (&mut known.token_file, &global.token_file),
        (&mut known.ca_file, &global.ca_file),
        (&mut known.cert_file, &global.cert_file),
        (&mut known.key_file, &global.key_file),
    ];
    for (known, given) in files {
        if let Some(given) = given {
            // The next command may be given in another folder.
            let path =
                std::path::absolute(given).map_err(|error| Failure::usage(format!("{given:?}: {error}")))?;
            *known = Some(path.to_string_lossy().into_owned());
        }
    }
    if known.server.is_empty() {
        return Err(Failure::usage("say where the servers are: --server URL,.."));
    }
    Ok(())
}

fn list(contexts: Contexts, view: &View, console: &mut Console) -> Result<(), Failure> {
    type Entry = (String, Known, bool);
    let current = contexts.current;
    let entry = |(name, known)| {
        let is_current = current.as_ref() == Some(&name);
        (name, known, is_current)
    };
    let row = |(name, known, is_current): &Entry| {
        let file = |path: &Option<String>| or_dash(path.as_deref().unwrap_or_default());
        vec![
            name.clone(),
            if *is_current { "yes" } else { "-" }.to_owned(),
            known.server.join(", "),
            file(&known.token_file),
            file(&known.ca_file),
            file(&known.cert_file),
        ]
    };
    let json = |(name, known, is_current): &Entry| -> Value {
        json!({
            "name": name,
            "current": is_current,
            "server": known.server,
            "token_file": known.token_file,
            "ca_file": known.ca_file,
            "cert_file": known.cert_file,
            "key_file": known.key_file,
            "logged_in": known.session.is_some(),
        })
    };
    let listed = Listed::whole(contexts.contexts.into_iter().map(entry).collect());
    let list = List {
        id: &|(name, ..): &Entry| name.clone(),
        header: &["NAME", "CURRENT", "SERVER", "TOKEN FILE", "CA FILE", "CERT FILE"],
        narrow: 4,
        row: &row,
        json: &json,
    };
    view.list(console, "contexts", &listed, &list)
}

#[cfg(test)]
mod tests {
    use crate::error::Exit;
    use crate::fake::{Fake, cli_around};
    use crate::settings::Surroundings;

    #[tokio::test]
    async fn a_context_is_stored_used_gone_before_and_forgotten() {
        let folder = tempfile::tempdir().expect("a folder");
        let token = folder.path().join("token");
        std::fs::write(&token, "forest_1_context\n").expect("written");
        let token = token.to_str().expect("text");
        let config = Some(folder.path().join("below").join("cli.toml"));
        let around = Surroundings { config, ..Surroundings::default() };
        let (fake, other) = (Fake::start().await, Fake::start().await);
        let url = fake.url();

        let none = cli_around(&["context", "list"], &around).await;
        assert_eq!((none.stdout.as_str(), none.stderr.as_str()), ("", "forest-cli: no contexts\n"));
        assert_eq!(cli_around(&["context", "set", "prod"], &around).await.exit, Exit::Usage, "where is it?");
        let set =
            cli_around(&["context", "set", "prod", "--server", &url, "--token-file", token], &around).await;
        assert_eq!((set.exit, set.stderr.as_str()), (Exit::Ok, "forest-cli: stored context prod\n"));
        let gone = ["context", "set", "gone", "--server", "http://127.0.0.1:1"];
        assert_eq!(cli_around(&gone, &around).await.exit, Exit::Ok);
        assert_eq!(cli_around(&["context", "list", "-o", "name"], &around).await.stdout, "gone\nprod\n");

        assert_eq!(cli_around(&["whoami"], &around).await.exit, Exit::Ok, "the first one counts");
        assert_eq!(fake.state().shown.as_deref(), Some("Bearer forest_1_context"));
        let env = Surroundings { token: Some("forest_2_env".to_owned()), ..around.clone() };
        cli_around(&["whoami"], &env).await;
        assert_eq!(
            fake.state().shown.as_deref(),
            Some("Bearer forest_2_env"),
            "the environment goes before it"
        );

        let elsewhere = cli_around(&["whoami", "--server", &other.url()], &around).await;
        assert_eq!(
            (elsewhere.exit, other.state().shown.clone()),
            (Exit::Ok, None),
            "its token is not for others"
        );
        let asked = cli_around(&["whoami", "--server", &other.url(), "--context", "prod"], &around).await;
        assert_eq!(asked.exit, Exit::Ok);
        assert_eq!(other.state().shown.as_deref(), Some("Bearer forest_1_context"));

        assert_eq!(cli_around(&["context", "use", "gone"], &around).await.exit, Exit::Ok);
        assert_eq!(cli_around(&["whoami"], &around).await.exit, Exit::Unreachable);
        assert_eq!(cli_around(&["whoami", "--context", "prod"], &around).await.exit, Exit::Ok);
        let unknown = cli_around(&["whoami", "--context", "test"], &around).await;
        assert_eq!(unknown.exit, Exit::NotFound);
        assert_eq!(unknown.stderr, "forest-cli: there is no context \"test\": gone, prod\n");
        assert_eq!(cli_around(&["context", "delete", "gone"], &around).await.exit, Exit::Ok);
        assert_eq!(cli_around(&["context", "delete", "gone"], &around).await.exit, Exit::NotFound);
        let json = cli_around(&["context", "list", "-o", "json"], &around).await.json();
        assert_eq!(
            (&json["contexts"][0]["name"], &json["contexts"][0]["current"]),
            (&"prod".into(), &false.into())
        );
    }
}
