//! `annulus key`.

use clap::{Args, Subcommand};

use super::{CliError, Target, output};
use crate::admin::model::{KeyReport, NewKey, UserReport};

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    action: KeyAction,
}

#[derive(Debug, Subcommand)]
enum KeyAction {
    /// Make an access key. Its secret is shown this once.
    Create {
        /// The name of its account.
        #[arg(long)]
        user: String,
        #[command(flatten)]
        target: Target,
    },
    /// List access keys, without their secrets.
    List {
        /// Only those of this account.
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        target: Target,
    },
    /// Revoke an access key: it is refused everywhere when this returns.
    Delete {
        /// The key's public id.
        access_key_id: String,
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn execute(args: KeyArgs) -> Result<(), CliError> {
    match args.action {
        KeyAction::Create { user, target } => {
            let key: KeyReport = target.client()?.post("/keys", &NewKey { user }).await?;
            if target.json {
                output::json(&key)?;
            } else {
                output::line(&format!("access key  {}", key.access_key))?;
                output::line(&format!("secret key  {}", key.secret_key.unwrap_or_default()))?;
            }
        }
        KeyAction::List { user, target } => {
            let mut keys: Vec<KeyReport> = target.client()?.get("/keys").await?;
            keys.retain(|key| user.as_ref().is_none_or(|user| *user == key.user));
            if let Some(user) = user.filter(|_| keys.is_empty()) {
                check_user(&target, &user).await?;
            }
            if target.json { output::json(&keys)? } else { print(&keys)? }
        }
        KeyAction::Delete { access_key_id, target } => {
            target.client()?.delete(&format!("/keys/{}", super::segment(&access_key_id))).await?;
        }
    }
    Ok(())
}

/// Tells a user without keys from one that there is not. A user in an account goes by `ACCOUNT/USER`, and is not looked for.
async fn check_user(target: &Target, name: &str) -> Result<(), CliError> {
    let users: Vec<UserReport> = target.client()?.get("/users").await?;
    let is_known = name.contains('/') || users.iter().any(|user| user.name == name);
    if is_known { Ok(()) } else { Err(CliError::Run(format!("there is no user {name}"))) }
}

fn print(keys: &[KeyReport]) -> std::io::Result<()> {
    let rows: Vec<[String; 3]> =
        keys.iter().map(|key| [key.access_key.clone(), key.user.clone(), output::date(key.created_ms)]).collect();
    output::table(["ACCESS KEY", "USER", "CREATED"], &rows)
}
