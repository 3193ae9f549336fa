//! The settings as flags of a command line, so that every binary has the same ones with the same help.

use std::path::PathBuf;
use std::sync::LazyLock;

use clap::{Arg, ArgMatches, Command, value_parser};

use super::settings::{Default, SETTINGS, Setting};
use super::values::Kind;

/// The flag that names the TOML file.
const CONFIG_FILE: &str = "config";

struct Flag {
    name: String,
    setting: &'static Setting,
}

static FLAGS: LazyLock<Vec<Flag>> = LazyLock::new(|| SETTINGS.iter().map(Flag::of).collect());

/// Adds `--config` and a flag for every setting.
pub fn add_to(command: Command) -> Command {
    let file = Arg::new(CONFIG_FILE)
        .long(CONFIG_FILE)
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("The TOML file to read settings from [variable: ANNULUS_CONFIG]");
    command.arg(file).args(FLAGS.iter().map(Flag::argument))
}

/// What the command line gives: names and values, and the TOML file.
pub fn given(matches: &ArgMatches) -> (Vec<(String, String)>, Option<PathBuf>) {
    let value =
        |flag: &'static Flag| matches.get_one::<String>(&flag.name).map(|value| (flag.name.clone(), value.clone()));
    (FLAGS.iter().filter_map(value).collect(), matches.get_one::<PathBuf>(CONFIG_FILE).cloned())
}

impl Flag {
    /// A secret is given by a file: everyone on the machine can read command lines.
    fn of(setting: &'static Setting) -> Self {
        let name = setting.flag_name().unwrap_or_else(|| format!("{}-file", setting.name.replace('_', "-")));
        Self { name, setting }
    }

    fn argument(&'static self) -> Arg {
        let argument = Arg::new(self.name.as_str()).long(self.name.as_str()).help(self.help());
        match self.setting.kind {
            // `--upload-anonymous` alone means yes; a value needs `=`, else it could be the next argument.
            Kind::Bool => {
                argument.num_args(0..=1).require_equals(true).default_missing_value("true").value_name("BOOL")
            }
            Kind::Secret => argument.value_name("FILE"),
            Kind::Path => argument.value_name("PATH"),
            Kind::Count(..) | Kind::Port => argument.value_name("N"),
            _ => argument.value_name("VALUE"),
        }
    }

    fn help(&self) -> String {
        let setting = self.setting;
        let doc = setting.doc.trim_end_matches('.');
        let (doc, variable) = match setting.kind {
            Kind::Secret => (format!("The file that holds: {doc}"), format!("{}_FILE", setting.env_name())),
            Kind::Choice(words) => (format!("{doc}: {}", words.join(", ")), setting.env_name()),
            _ => (doc.to_owned(), setting.env_name()),
        };
        match setting.default {
            Default::Value("") | Default::None => format!("{doc} [variable: {variable}]"),
            Default::Value(default) | Default::Derived(default) => {
                format!("{doc} [variable: {variable}] [default: {default}]")
            }
        }
    }
}
