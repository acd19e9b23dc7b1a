//! `login` and `logout`: a session in place of a token, kept with the context.

use forest_proto::admin::v1::{LoginRequest, LogoutRequest};
use serde_json::json;

use super::{Context, context};
use crate::args::{Global, LoginCommand};
use crate::connect::Client;
use crate::console::Console;
use crate::contexts::{Contexts, Hidden, Known};
use crate::error::{Exit, Failure};
use crate::output::{View, field, instant_json, printable_line};
use crate::settings::{self, Surroundings};

/// The context that is made where there is none yet.
const FIRST: &str = "default";

pub(super) async fn login(
    command: LoginCommand,
    global: &Global,
    around: &Surroundings,
    view: View,
    console: &mut Console,
) -> Result<(), Failure> {
    let path = around.config.as_deref();
    let mut contexts = Contexts::load(path)?;
    let name = place(global, &contexts)?;
    let mut known = contexts.contexts.get(&name).cloned().unwrap_or_default();
    // Before the password is asked for: what cannot be kept need not be fetched.
    known.server = settings::servers(&Global { server: Vec::new(), ..global.clone() }, &known);
    context::set(&mut known, global)?;
    for server in known.server.iter().filter(|server| settings::is_open(server)) {
        console.note(&format!("the password goes to {server} unencrypted: better https://"));
    }
    let password = console.password(command.password_stdin)?;
    let unknown = Known { session: None, token_file: None, ..known.clone() };
    let api = settings::api_of(unknown, None, &Global { token_file: None, ..global.clone() }, console)?;
    let mut context = Context { api, view, console };
    let request = LoginRequest { user: command.user, password };
    let call = async |mut client: Client| client.login(request.clone()).await;
    let answer = context.api.write("log in", call).await?;
    known.session = Some(Hidden(answer.session));
    contexts.contexts.insert(name.clone(), known);
    contexts.current.get_or_insert(name.clone());
    contexts.save(path)?;
    let who = answer.identity.unwrap_or_default().who;
    let until = context.view.second(answer.expires_at);
    if around.token.is_some() {
        context.console.note("FOREST_TOKEN is set, and goes before the session");
    }
    let json = json!({ "who": who, "context": name, "expires_at": instant_json(answer.expires_at) });
    if context.view.format.is_document() {
        return context.view.show(context.console, &name, &json, vec![field("who", who.as_str())]);
    }
    let who = printable_line(&who);
    context.console.note(&format!("logged in as {who} until {until}, in context {name}"));
    Ok(())
}

pub(super) async fn logout(
    global: &Global,
    around: &Surroundings,
    view: View,
    console: &mut Console,
) -> Result<(), Failure> {
    let path = around.config.as_deref();
    let mut contexts = Contexts::load(path)?;
    let nobody = || Failure::refused("nobody is logged in; `login` does that");
    let name = global.context.clone().or(contexts.current.clone()).ok_or_else(nobody)?;
    let known = contexts.get(&name)?.clone();
    if known.session.is_none() {
        return Err(nobody());
    }
    // A session is shown only to those who gave it.
    let global = Global { server: Vec::new(), token_file: None, ..global.clone() };
    let api = settings::api_of(known, None, &global, console)?;
    let mut context = Context { api, view, console };
    let call = async |mut client: Client| client.logout(LogoutRequest {}).await;
    match context.api.write("log out", call).await {
        // It had ended before.
        Err(failure) if failure.exit == Exit::Denied => {}
        ended => {
            ended?;
        }
    }
    if let Some(known) = contexts.contexts.get_mut(&name) {
        known.session = None;
    }
    contexts.save(path)?;
    context.done("ended", "session", &name, &format!("logged out of context {name}"))
}

/// The name of the context that keeps the session.
fn place(global: &Global, contexts: &Contexts) -> Result<String, Failure> {
    if let Some(name) = &global.context {
        // With servers it is made.
        if global.server.is_empty() {
            contexts.get(name)?;
        }
        return Ok(name.clone());
    }
    if contexts.contexts.is_empty() {
        return Ok(FIRST.to_owned());
    }
    match &contexts.current {
        // The session of other servers would take the place of its own.
        Some(name) if global.server.is_empty() || global.server == contexts.get(name)?.server => {
            Ok(name.clone())
        }
        _ => Err(Failure::usage("say under which name the session is kept: --context NAME")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use crate::error::Exit;
    use crate::fake::{Fake, cli_around, cli_around_with_stdin};
    use crate::settings::Surroundings;

    #[tokio::test]
    async fn a_session_is_kept_with_its_context_shown_there_alone_and_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("below").join("cli.toml");
        let around = Surroundings { config: Some(path.clone()), ..Surroundings::default() };
        let (fake, other) = (Fake::start().await, Fake::start().await);
        let (url, elsewhere) = (fake.url(), other.url());
        let login = ["login", "ann", "--password-stdin", "--server", &url];

        let wrong = cli_around_with_stdin(&login, &around, "guessed").await;
        assert_eq!(wrong.exit, Exit::Denied, "{}", wrong.stderr);
        assert!(!wrong.stderr.contains("guessed") && !path.exists());
        let nobody = cli_around(&["login", "ann", "--server", &url], &around).await;
        assert_eq!(nobody.exit, Exit::Usage, "nobody can be asked: {}", nobody.stderr);

        let said = cli_around_with_stdin(&login, &around, "right password\n").await;
        assert_eq!(said.exit, Exit::Ok, "{}", said.stderr);
        assert!(said.stderr.contains("logged in as user:ann until 20"), "{}", said.stderr);
        assert!(!(said.stdout + &said.stderr).contains("forest_5e55_"), "the session is not shown");
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "nobody else reads it");
        assert_eq!(cli_around(&["whoami"], &around).await.exit, Exit::Ok);
        assert_eq!(fake.state().shown.as_deref(), Some("Bearer forest_5e55_session"));
        let listed = cli_around(&["context", "list", "-o", "json"], &around).await;
        assert_eq!(listed.json()["contexts"][0]["logged_in"], true);
        assert!(!listed.stdout.contains("5e55"), "{}", listed.stdout);

        // It is for the servers that gave it.
        cli_around(&["whoami", "--server", &elsewhere], &around).await;
        assert_eq!(other.state().shown, None);
        let unclear = ["login", "ann", "--password-stdin", "--server", &elsewhere];
        let unclear = cli_around_with_stdin(&unclear, &around, "right password").await;
        assert_eq!(unclear.exit, Exit::Usage, "{}", unclear.stderr);
        assert_eq!(
            cli_around(&["context", "set", "default", "--server", &elsewhere], &around).await.exit,
            Exit::Ok
        );
        cli_around(&["whoami"], &around).await;
        assert_eq!(other.state().shown, None, "another server, another session");
        assert_eq!(cli_around(&["logout"], &around).await.exit, Exit::Refused, "it is forgotten");

        let named = ["login", "ann", "--password-stdin", "--server", &url, "--context", "prod", "-o", "json"];
        let said = cli_around_with_stdin(&named, &around, "right password").await;
        assert_eq!((said.exit, &said.json()["context"]), (Exit::Ok, &"prod".into()), "{}", said.stderr);
        let out = cli_around(&["logout", "--context", "prod"], &around).await;
        assert_eq!((out.exit, out.stderr.as_str()), (Exit::Ok, "forest-cli: logged out of context prod\n"));
        assert_eq!(fake.state().shown.as_deref(), Some("Bearer forest_5e55_session"), "which one to end");
        assert!(!std::fs::read_to_string(&path).expect("it is there").contains("5e55"));
        assert_eq!(cli_around(&["logout", "--context", "prod"], &around).await.exit, Exit::Refused);
    }
}
