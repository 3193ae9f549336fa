//! `annulus user`.

use clap::{Args, Subcommand};

use super::quota::QuotaArgs;
use super::{CliError, Target, output};
use crate::admin::model::{NewUser, UserReport};

#[derive(Debug, Args)]
pub(super) struct UserArgs {
    #[command(subcommand)]
    action: UserAction,
}

#[derive(Debug, Subcommand)]
enum UserAction {
    /// Make an account.
    Create {
        /// Its name, unique.
        name: String,
        /// The name that S3 shows.
        #[arg(long)]
        display_name: Option<String>,
        /// Its e-mail address, unique.
        #[arg(long)]
        email: Option<String>,
        /// Let it use the admin API.
        #[arg(long)]
        admin: bool,
        #[command(flatten)]
        target: Target,
    },
    /// List accounts.
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Show or set the most that all buckets of an account may hold together.
    Quota(QuotaArgs),
    /// Delete an account that owns no buckets, and its keys.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        target: Target,
    },
}

pub(super) async fn execute(args: UserArgs) -> Result<(), CliError> {
    match args.action {
        UserAction::Create { name, display_name, email, admin, target } => {
            let user: UserReport =
                target.client()?.post("/users", &NewUser { name, display_name, email, admin }).await?;
            if target.json { output::json(&user)? } else { print(&[user])? }
        }
        UserAction::List { target } => {
            let users: Vec<UserReport> = target.client()?.get("/users").await?;
            if target.json { output::json(&users)? } else { print(&users)? }
        }
        UserAction::Quota(args) => super::quota::execute("users", args).await?,
        UserAction::Delete { name, target } => {
            target.client()?.delete(&format!("/users/{}", super::segment(&name))).await?
        }
    }
    Ok(())
}

fn print(users: &[UserReport]) -> std::io::Result<()> {
    let rows: Vec<[String; 6]> = users
        .iter()
        .map(|user| {
            let role = if user.admin { "admin" } else { "user" };
            let email = user.email.clone().unwrap_or_else(|| "-".to_owned());
            [
                user.name.clone(),
                user.display_name.clone(),
                email,
                role.to_owned(),
                output::date(user.created_ms),
                user.id.clone(),
            ]
        })
        .collect();
    output::table(["NAME", "DISPLAY NAME", "EMAIL", "ROLE", "CREATED", "ID"], &rows)
}
