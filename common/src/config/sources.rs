//! The four places a setting can be given in, read into one shape. Knows names and files; values are only text here.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::error::{ConfigError, Origin};
use super::settings::{ENV_NOT_SETTINGS, ENV_PREFIX, SETTINGS, Setting};

/// A value as somebody wrote it.
#[derive(Clone)]
pub(super) struct Given {
    /// The name as it was written, for error messages.
    pub(super) written: String,
    /// The value as it was written.
    pub(super) value: String,
    /// Where.
    pub(super) origin: Origin,
    /// Whether `value` is the path of a file that holds the value.
    pub(super) in_file: bool,
}

/// What one place, or all of them together, gives for the settings.
pub(super) type Layer = BTreeMap<&'static str, Given>;

/// How a place spells the names of settings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    Variable,
    TomlKey,
    Flag,
}

pub(super) fn read_flags(flags: Vec<(String, String)>) -> Result<Layer, ConfigError> {
    let mut layer = Layer::new();
    for (name, value) in flags {
        let name = name.trim_start_matches('-').replace('_', "-");
        let secret = SETTINGS.iter().find(|setting| setting.is_secret() && setting.name.replace('_', "-") == name);
        if let Some(secret) = secret {
            return Err(ConfigError::SecretOnCommandLine { name, variable: secret.env_name() });
        }
        insert(&mut layer, Spelling::Flag, name, value, Origin::Flag)?;
    }
    Ok(layer)
}

/// Of the environment only what is ours is looked at: the rest belongs to others.
pub(super) fn read_environment(variables: Vec<(String, String)>) -> Result<Layer, ConfigError> {
    let ours = |name: &str| name.starts_with(ENV_PREFIX) || find(Spelling::Variable, name).is_some();
    let ours = variables.into_iter().filter(|(name, _)| ours(name));
    read_variables(ours, &Origin::Environment)
}

/// The whole `.env` file is ours, so that every name in it must be known.
pub(super) fn read_env_file(path: &Path) -> Result<Layer, ConfigError> {
    let text = read_file(path)?;
    let mut variables = Vec::new();
    for item in dotenvy::from_read_iter(text.as_bytes()) {
        // The source shows the line, which may hold a secret.
        variables.push(item.map_err(|_| ConfigError::Syntax {
            path: path.to_owned(),
            reason: match variables.last() {
                Some((name, _)) => format!("the line after `{name}` is not `NAME=value`"),
                None => "the first line is not `NAME=value`".to_owned(),
            },
        })?);
    }
    read_variables(variables.into_iter(), &Origin::EnvFile(path.to_owned()))
}

pub(super) fn read_toml(path: &Path) -> Result<Layer, ConfigError> {
    let text = read_file(path)?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        // Not the error itself: it shows the line, which may hold a secret.
        ConfigError::Syntax { path: path.to_owned(), reason: format!("line {line}: {}", error.message()) }
    })?;
    let (origin, mut layer) = (Origin::TomlFile(path.to_owned()), Layer::new());
    for (name, value) in table {
        if find(Spelling::TomlKey, &name).is_none() {
            return Err(unknown(Spelling::TomlKey, name, origin));
        }
        let value = toml_text(&value).map_err(|reason| invalid(&name, &origin, reason))?;
        insert(&mut layer, Spelling::TomlKey, name, value, origin.clone())?;
    }
    Ok(layer)
}

pub(super) fn read_file(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

pub(super) fn invalid(name: &str, origin: &Origin, reason: impl Into<String>) -> ConfigError {
    ConfigError::Invalid { name: name.to_owned(), origin: origin.clone(), reason: reason.into() }
}

/// A variable without a value counts as not given: that is what compose files make of one that is unset.
fn read_variables(variables: impl Iterator<Item = (String, String)>, origin: &Origin) -> Result<Layer, ConfigError> {
    let mut layer = Layer::new();
    for (name, value) in variables {
        if ENV_NOT_SETTINGS.contains(&name.as_str()) {
            continue;
        }
        if find(Spelling::Variable, &name).is_none() {
            return Err(unknown(Spelling::Variable, name, origin.clone()));
        }
        if !value.is_empty() {
            insert(&mut layer, Spelling::Variable, name, value, origin.clone())?;
        }
    }
    Ok(layer)
}

fn toml_text(value: &toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text.clone()),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(truth) => Ok(truth.to_string()),
        toml::Value::Array(items) => {
            let items: Result<Vec<String>, String> = items.iter().map(toml_text).collect();
            items.map(|items| items.join(","))
        }
        toml::Value::Table(_) => Err("is a table, and must be a plain value".to_owned()),
        toml::Value::Datetime(_) => Err("is a date, and must be a plain value".to_owned()),
    }
}

fn insert(
    layer: &mut Layer,
    spelling: Spelling,
    written: String,
    value: String,
    origin: Origin,
) -> Result<(), ConfigError> {
    let Some((setting, in_file)) = find(spelling, &written) else { return Err(unknown(spelling, written, origin)) };
    if let Some(first) = layer.get(setting.name) {
        return Err(ConfigError::Twice { first: first.written.clone(), second: written, origin });
    }
    layer.insert(setting.name, Given { written, value, origin, in_file });
    Ok(())
}

/// The setting of that name, and whether the name is that of its `_file` twin.
fn find(spelling: Spelling, written: &str) -> Option<(&'static Setting, bool)> {
    SETTINGS.iter().find_map(|setting| {
        let (plain, twin) = spell(spelling, setting);
        if plain.as_deref() == Some(written) {
            Some((setting, false))
        } else {
            (twin.as_deref() == Some(written)).then_some((setting, true))
        }
    })
}

/// How the place spells the setting's name, and that of its `_file` twin.
fn spell(spelling: Spelling, setting: &Setting) -> (Option<String>, Option<String>) {
    let (plain, twin) = match spelling {
        Spelling::Variable => (Some(setting.env_name()), format!("{}_FILE", setting.env_name())),
        Spelling::TomlKey => (Some(setting.name.to_owned()), format!("{}_file", setting.name)),
        Spelling::Flag => (setting.flag_name(), format!("{}-file", setting.name.replace('_', "-"))),
    };
    (plain, setting.is_secret().then_some(twin))
}

fn unknown(spelling: Spelling, name: String, origin: Origin) -> ConfigError {
    let known = SETTINGS.iter().flat_map(|setting| <[Option<String>; 2]>::from(spell(spelling, setting))).flatten();
    let nearest = known.map(|known| (distance(&plain(&known), &plain(&name)), known)).min();
    // Two slips, or a third of a long name: beyond that the suggestion would only puzzle.
    let near = |distance: usize| distance <= (plain(&name).len() / 3).max(2);
    let suggestion = nearest.and_then(|(distance, known)| near(distance).then_some(known));
    ConfigError::Unknown { name, origin, suggestion }
}

/// The name without what only the place adds to it, so that `ANNULUS_NODE_PORT` is near `NODE_PORT`.
fn plain(name: &str) -> String {
    let name = name.to_lowercase().replace('-', "_");
    name.strip_prefix("annulus_").unwrap_or(&name).to_owned()
}

/// Levenshtein's distance: the least number of letters to insert, drop or exchange.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &to) in b.iter().enumerate() {
            let exchanged = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = exchanged.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
