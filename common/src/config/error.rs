//! What can be wrong with a configuration, said so that a person can mend it. Never shows a secret.

use std::fmt;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::settings::SETTINGS;

/// The variable by which a setting can be given, or a file that holds it.
fn variable_of(name: &str) -> String {
    let setting = SETTINGS.iter().find(|setting| setting.name == name);
    setting.map_or_else(
        || name.to_uppercase(),
        |setting| {
            let variable = setting.env_name();
            if setting.is_secret() { format!("{variable} or {variable}_FILE") } else { variable }
        },
    )
}

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// The TOML file.
    TomlFile(PathBuf),
    /// The `.env` file.
    EnvFile(PathBuf),
    /// The environment.
    Environment,
    /// The command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("the default"),
            Origin::TomlFile(path) | Origin::EnvFile(path) => path.display().fmt(f),
            Origin::Environment => f.write_str("the environment"),
            Origin::Flag => f.write_str("the command line"),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Nothing has this name.
    #[error("unknown setting `{name}` in {origin}{}", suggestion.as_ref().map_or(String::new(), |known| format!(": did you mean `{known}`?")))]
    Unknown {
        /// The name as it was written.
        name: String,
        /// Where it was written.
        origin: Origin,
        /// The nearest known name, if one is near.
        suggestion: Option<String>,
    },
    /// The value cannot be what the setting asks for.
    #[error("`{name}` in {origin}: {reason}")]
    Invalid {
        /// The name as it was written.
        name: String,
        /// Where it was written.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// A secret on the command line.
    #[error(
        "`{name}` is a secret, and everyone on this machine can read command lines: give it by the variable `{variable}` or by a file with `{variable}_FILE`"
    )]
    SecretOnCommandLine {
        /// The setting.
        name: String,
        /// The variable to use instead.
        variable: String,
    },
    /// The same thing said twice in one place.
    #[error("`{first}` and `{second}` are both given in {origin}: keep one")]
    Twice {
        /// One of the two names.
        first: String,
        /// The other.
        second: String,
        /// Where they were written.
        origin: Origin,
    },
    /// A setting that others make necessary.
    #[error("`{name}` is missing (variable {}): {reason}", variable_of(name))]
    Missing {
        /// The setting.
        name: &'static str,
        /// What makes it necessary.
        reason: &'static str,
    },
    /// A file that was named cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that is not written as its kind should be.
    #[error("{}: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, without the values.
        reason: String,
    },
}
