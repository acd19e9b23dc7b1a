//! `whoami`, `user` and `token`: who may administer the cluster.

use std::collections::BTreeMap;

use forest_proto::admin::v1::{
    AddTokenRequest, AddUserRequest, DeleteUserRequest, EditUserRequest, Grants, ListTokensRequest,
    ListUsersRequest, RevokeTokenRequest, Token, User, WhoAmIRequest,
};
use serde_json::{Value, json};

use super::Context;
use crate::args::{EditUser, GrantFlags, TokenCommand, UserCommand};
use crate::connect::Client;
use crate::error::Failure;
use crate::output::{List, field, instant_json, or_dash, printable_line};
use crate::paging::{Paging, collect};

pub(super) async fn whoami(context: &mut Context<'_>) -> Result<(), Failure> {
    let call = async |mut client: Client| client.who_am_i(WhoAmIRequest {}).await;
    let identity = context.api.read("ask who you are", call).await?;
    let login = if identity.login { "required" } else { "not required: everybody may do everything" };
    let fields = vec![
        field("who", identity.who.as_str()),
        field("may", grants_text(identity.grants.as_ref())),
        field("login", login),
    ];
    let json = json!({
        "who": identity.who,
        "grants": grants_json(identity.grants.as_ref()),
        "login": identity.login,
    });
    context.view.show(context.console, &identity.who, &json, fields)
}

pub(super) async fn user(context: &mut Context<'_>, command: UserCommand) -> Result<(), Failure> {
    match command {
        UserCommand::List { paging } => list_users(context, paging).await,
        UserCommand::Add { name, grants, password_stdin } => {
            add_user(context, name, grants, password_stdin).await
        }
        UserCommand::Edit(args) => edit_user(context, args).await,
        UserCommand::Delete { name, yes } => {
            context.console.confirm(yes, &format!("Delete user {name}, with all sessions and tokens?"))?;
            let request = DeleteUserRequest { name: name.clone() };
            let call = async |mut client: Client| client.delete_user(request.clone()).await;
            context.api.write("delete the user", call).await?;
            context.deleted("user", &name)
        }
    }
}

async fn list_users(context: &mut Context<'_>, paging: Paging) -> Result<(), Failure> {
    let listed = collect(paging, async |page_size, page_token| {
        let request = ListUsersRequest { page_size, page_token };
        let call = async |mut client: Client| client.list_users(request.clone()).await;
        let page = context.api.read("list the users", call).await?;
        Ok((page.users, page.next_page_token))
    });
    let listed = listed.await?;
    let view = &context.view;
    let row = |user: &User| {
        let state = if user.disabled { "disabled" } else { "enabled" };
        let grants = grants_text(user.grants.as_ref()).replace('\n', ", ");
        vec![user.name.clone(), grants, state.to_owned(), view.second(user.created_at)]
    };
    let header = &["NAME", "MAY", "LOGIN", "CREATED"];
    let list = List { id: &|user: &User| user.name.clone(), header, narrow: 4, row: &row, json: &user_json };
    view.list(context.console, "users", &listed, &list)
}

async fn add_user(
    context: &mut Context<'_>,
    name: String,
    grants: GrantFlags,
    password_stdin: bool,
) -> Result<(), Failure> {
    let grants = Some(required(grants)?);
    let password = context.console.new_password(password_stdin)?;
    let request = AddUserRequest { name, password, grants };
    let call = async |mut client: Client| client.add_user(request.clone()).await;
    let user = context.api.write("add the user", call).await?;
    show_user(context, &user)
}

async fn edit_user(context: &mut Context<'_>, args: EditUser) -> Result<(), Failure> {
    let grants = args.grants.grants();
    let disabled = (args.disabled || args.enabled).then_some(args.disabled);
    let asks = args.password || args.password_stdin;
    if grants.is_none() && disabled.is_none() && !asks {
        let flags = "--role, --grant, --password, --password-stdin, --disabled or --enabled";
        return Err(Failure::usage(format!("nothing to change: give {flags}")));
    }
    let password = if asks { Some(context.console.new_password(args.password_stdin)?) } else { None };
    let request = EditUserRequest { name: args.name, password, grants, disabled };
    let call = async |mut client: Client| client.edit_user(request.clone()).await;
    let user = context.api.write("edit the user", call).await?;
    show_user(context, &user)
}

fn show_user(context: &mut Context<'_>, user: &User) -> Result<(), Failure> {
    let fields = vec![
        field("name", user.name.as_str()),
        field("may", grants_text(user.grants.as_ref())),
        field("login", if user.disabled { "disabled" } else { "enabled" }),
        field("created", context.view.instant(user.created_at)),
    ];
    context.view.show(context.console, &user.name, &user_json(user), fields)
}

pub(super) async fn token(context: &mut Context<'_>, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::List { paging } => list_tokens(context, paging).await,
        TokenCommand::Add { name, grants, expires_in } => {
            let request = AddTokenRequest { name, grants: Some(required(grants)?), lives_ms: expires_in };
            add_token(context, request).await
        }
        TokenCommand::Revoke { id } => {
            let request = RevokeTokenRequest { id: id.clone() };
            let call = async |mut client: Client| client.revoke_token(request.clone()).await;
            context.api.write("revoke the token", call).await?;
            context.done("revoked", "token", &id, &format!("revoked token {id}"))
        }
    }
}

async fn list_tokens(context: &mut Context<'_>, paging: Paging) -> Result<(), Failure> {
    let listed = collect(paging, async |page_size, page_token| {
        let request = ListTokensRequest { page_size, page_token };
        let call = async |mut client: Client| client.list_tokens(request.clone()).await;
        let page = context.api.read("list the tokens", call).await?;
        Ok((page.tokens, page.next_page_token))
    });
    let listed = listed.await?;
    let view = &context.view;
    let expires = |token: &Token| match token.expires_at {
        0 => "never".to_owned(),
        at => view.second(at),
    };
    let row = |token: &Token| {
        vec![
            token.id.clone(),
            token.name.clone(),
            or_dash(&token.user),
            grants_text(token.grants.as_ref()).replace('\n', ", "),
            expires(token),
            view.second(token.created_at),
        ]
    };
    let list = List {
        id: &|token: &Token| token.id.clone(),
        header: &["TOKEN", "NAME", "USER", "MAY", "EXPIRES", "CREATED"],
        narrow: 5,
        row: &row,
        json: &token_json,
    };
    view.list(context.console, "tokens", &listed, &list)
}

/// The secret is all of stdout, so that it can be piped to where it belongs.
async fn add_token(context: &mut Context<'_>, request: AddTokenRequest) -> Result<(), Failure> {
    let call = async |mut client: Client| client.add_token(request.clone()).await;
    let answer = context.api.write("add the token", call).await?;
    let token = answer.token.unwrap_or_default();
    if context.view.format.is_document() {
        let json = json!({ "token": token_json(&token), "secret": answer.secret });
        return context.view.data(context.console, &json);
    }
    context.console.print(&format!("{}\n", printable_line(&answer.secret)))?;
    let (id, until) = (printable_line(&token.id), context.view.second(token.expires_at));
    context.console.note(&format!("token {id} counts until {until}; its secret is not shown again"));
    Ok(())
}

fn required(grants: GrantFlags) -> Result<Grants, Failure> {
    grants.grants().ok_or_else(|| Failure::usage("say what is allowed: --role ROLE, or --grant GROUP=ROLE"))
}

/// One role a line: `admin everywhere`, `editor in trade`.
fn grants_text(grants: Option<&Grants>) -> String {
    let Some(grants) = grants else { return "nothing".to_owned() };
    let everywhere = Some(format!("{} everywhere", grants.everywhere));
    let everywhere = everywhere.filter(|_| !grants.everywhere.is_empty());
    let groups: BTreeMap<_, _> = grants.groups.iter().collect();
    let groups = groups.into_iter().map(|(group, role)| format!("{role} in {group}"));
    let lines: Vec<String> = everywhere.into_iter().chain(groups).collect();
    if lines.is_empty() { "nothing".to_owned() } else { lines.join("\n") }
}

fn grants_json(grants: Option<&Grants>) -> Value {
    let Grants { everywhere, groups } = grants.cloned().unwrap_or_default();
    let everywhere = if everywhere.is_empty() { Value::Null } else { everywhere.into() };
    json!({ "everywhere": everywhere, "groups": groups })
}

fn user_json(user: &User) -> Value {
    json!({
        "name": user.name,
        "grants": grants_json(user.grants.as_ref()),
        "disabled": user.disabled,
        "created_at": instant_json(user.created_at),
    })
}

fn token_json(token: &Token) -> Value {
    json!({
        "id": token.id,
        "name": token.name,
        "user": token.user,
        "grants": grants_json(token.grants.as_ref()),
        "created_at": instant_json(token.created_at),
        "expires_at": instant_json(token.expires_at),
    })
}

#[cfg(test)]
mod tests;
