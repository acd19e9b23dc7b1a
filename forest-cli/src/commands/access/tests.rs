//! Users and tokens against a server.

use serde_json::json;
use tonic::Status;

use crate::error::Exit;
use crate::fake::Fake;

const PASSWORD: &str = "correct horse battery";

#[tokio::test]
async fn the_command_of_the_first_start_makes_an_administrator() {
    let fake = Fake::start().await;
    let typed = format!("{PASSWORD}\n{PASSWORD}\n");
    let added = fake.cli_at_terminal(&["user", "add", "ann", "--role", "admin"], &typed).await;
    let expected = "\
name     ann
may      admin everywhere
login    enabled
created  2026-11-18 11:06:40+00
";
    assert_eq!((added.exit, added.stdout.as_str()), (Exit::Ok, expected), "{}", added.stderr);
    assert_eq!(fake.state().passwords, [PASSWORD]);
}

#[tokio::test]
async fn a_password_that_is_typed_otherwise_the_second_time_changes_nothing() {
    let fake = Fake::start().await;
    let differ = fake.cli_at_terminal(&["user", "add", "ann", "--role", "admin"], "one\ntwo\n").await;
    assert_eq!((differ.exit, fake.state().calls), (Exit::Refused, 0));
    let nobody = fake.cli(&["user", "add", "ann", "--role", "admin"]).await;
    assert_eq!((nobody.exit, fake.state().calls), (Exit::Usage, 0));
    assert!(nobody.stderr.contains("--password-stdin"), "{}", nobody.stderr);
    let nothing = fake.cli_with_stdin(&["user", "add", "ann", "--password-stdin"], PASSWORD).await;
    assert_eq!((nothing.exit, fake.state().calls), (Exit::Usage, 0));
    assert!(nothing.stderr.contains("--grant GROUP=ROLE"), "{}", nothing.stderr);
}

#[tokio::test]
async fn a_user_is_changed_listed_and_deleted() {
    let fake = Fake::start().await;
    let line = [
        "user",
        "add",
        "bob",
        "--grant",
        "trade=editor",
        "--grant",
        "mail=viewer",
        "--password-stdin",
        "-o",
        "json",
    ];
    let added = fake.cli_with_stdin(&line, &format!("{PASSWORD}\n")).await.json();
    let grants = json!({ "everywhere": null, "groups": { "mail": "viewer", "trade": "editor" } });
    let expected = json!({
        "name": "bob", "grants": grants, "disabled": false, "created_at": "2026-11-18T11:06:40.000Z",
    });
    assert_eq!(added, expected);
    assert_eq!(fake.state().passwords, [PASSWORD]);
    let table = "\
NAME  MAY                              LOGIN    CREATED
bob   viewer in mail, editor in trade  enabled  2026-11-18 11:06:40+00
";
    assert_eq!(fake.cli(&["user", "list"]).await.stdout, table);

    let edited = fake.cli(&["user", "edit", "bob", "--role", "viewer", "--disabled", "-o", "yaml"]).await;
    let expected = "\
created_at: 2026-11-18T11:06:40.000Z
disabled: true
grants:
  everywhere: viewer
  groups: {}
name: bob
";
    assert_eq!((edited.exit, edited.stdout.as_str()), (Exit::Ok, expected));
    let password =
        fake.cli_with_stdin(&["user", "edit", "bob", "--password-stdin"], "another password").await;
    assert_eq!((password.exit, fake.state().passwords.len()), (Exit::Ok, 2));
    assert!(
        password.stdout.contains("may      viewer everywhere\nlogin    disabled\n"),
        "they stay as they are"
    );
    assert_eq!(fake.cli(&["user", "edit", "bob"]).await.exit, Exit::Usage, "nothing to change");
    assert_eq!(fake.cli(&["user", "edit", "eve", "--enabled"]).await.exit, Exit::NotFound);

    assert_eq!(fake.cli(&["user", "delete", "bob"]).await.exit, Exit::Usage);
    let deleted = fake.cli_at_terminal(&["user", "delete", "bob"], "y\n").await;
    assert_eq!((deleted.exit, fake.state().users.len()), (Exit::Ok, 0));
    assert!(deleted.stderr.ends_with("forest-cli: deleted user bob\n"), "{}", deleted.stderr);
}

#[tokio::test]
async fn the_secret_of_a_token_is_all_of_stdout() {
    let fake = Fake::start().await;
    let added = fake.cli(&["token", "add", "ci", "--grant", "trade=operator", "--expires-in", "30d"]).await;
    assert_eq!((added.exit, added.stdout.as_str()), (Exit::Ok, "forest_1f2e0_secret\n"));
    let note = "forest-cli: token 1f2e0 counts until 2026-12-18 11:06:40+00; its secret is not shown again\n";
    assert_eq!(added.stderr, note);
    let json = fake.cli(&["token", "add", "cd", "--role", "viewer", "-o", "json"]).await.json();
    assert_eq!(json["secret"], "forest_1f2e1_secret");
    assert_eq!(json["token"]["expires_at"], "2027-02-16T11:06:40.000Z", "90 days");

    let table = "\
TOKEN  NAME  USER  MAY                EXPIRES
1f2e0  ci    ann   operator in trade  2026-12-18 11:06:40+00
1f2e1  cd    ann   viewer everywhere  2027-02-16 11:06:40+00
";
    let listed = fake.cli(&["token", "list"]).await.stdout;
    assert_eq!(listed, table);
    assert_eq!(fake.cli(&["token", "list", "-o", "name"]).await.stdout, "1f2e0\n1f2e1\n");

    let revoked = fake.cli(&["token", "revoke", "1f2e0"]).await;
    assert_eq!((revoked.exit, revoked.stderr.as_str()), (Exit::Ok, "forest-cli: revoked token 1f2e0\n"));
    assert_eq!(fake.cli(&["token", "revoke", "1f2e0"]).await.exit, Exit::NotFound);
    assert_eq!(fake.cli(&["token", "add", "ci"]).await.exit, Exit::Usage, "what may it do?");
}

#[tokio::test]
async fn who_one_is() {
    let fake = Fake::start().await;
    let nobody = "\
who    anonymous
may    admin everywhere
login  not required: everybody may do everything
";
    assert_eq!(fake.cli(&["whoami"]).await.stdout, nobody);
    let known = fake.cli_with_token("forest_1f2e_x", &["whoami", "-o", "json"]).await.json();
    let grants = json!({ "everywhere": "admin", "groups": {} });
    assert_eq!(known, json!({ "who": "token:1f2e", "grants": grants, "login": true }));
}

#[tokio::test]
async fn who_is_not_let_in_is_told_what_to_do() {
    let fake = Fake::start().await;
    fake.state().refuse_all = Some(Status::unauthenticated("a login is required"));
    let refused = fake.cli(&["job", "list"]).await;
    assert_eq!((refused.exit.code(), refused.stdout.as_str()), (6, ""));
    assert!(refused.stderr.contains("a login is required - `login` does that"), "{}", refused.stderr);
    assert_eq!(refused.stderr.lines().count(), 1);
    fake.state().refuse_all = Some(Status::permission_denied("needs editor in trade"));
    let denied = fake.cli(&["job", "enable", "7"]).await;
    assert_eq!(denied.exit, Exit::Denied);
    assert!(denied.stderr.contains("`whoami` shows what you may do"), "{}", denied.stderr);
}
