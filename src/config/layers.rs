//! The layers, and errors that say which of them a value came from.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::Config;

const DEFAULTS: &str = include_str!("../../config/default.toml");
const ENVIRONMENT_PREFIX: &str = "ROLLCALL_";
/// Variables of the command line, which reads them itself.
const NOT_SETTINGS: [&str; 3] = ["ROLLCALL_URL", "ROLLCALL_API_KEY", "ROLLCALL_CONFIG"];
/// A name further off than this is not a slip of the fingers.
const SUGGESTION_DISTANCE_MAX: usize = 4;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `config/default.toml`, compiled in.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// The environment.
    Environment,
}

/// Why the configuration cannot be used, in one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or is not TOML.
    #[error("the configuration file {}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A setting has a name or a value that is not understood.
    #[error("{}: {message}", subject(setting, origin))]
    Setting {
        /// The setting's name, such as `limits.scim_burst`.
        setting: String,
        /// Where it came from.
        origin: Origin,
        /// What is wrong and what is allowed.
        message: String,
    },
}

/// The setting as the person wrote it, and where.
fn subject(setting: &str, origin: &Origin) -> String {
    match origin {
        Origin::Default => format!("{setting} (default)"),
        Origin::File(path) => format!("{setting} in {}", path.display()),
        Origin::Environment => format!("{} from the environment", variable(setting)),
    }
}

fn variable(setting: &str) -> String {
    format!(
        "{ENVIRONMENT_PREFIX}{}",
        setting.replace('.', "__").to_ascii_uppercase()
    )
}

/// The process's variables that begin with our prefix.
pub(super) fn process_environment() -> Result<Vec<(String, String)>, ConfigError> {
    // Not `vars`, which panics at any variable, even a foreign one, that is not UTF-8.
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with(ENVIRONMENT_PREFIX))
        .map(|(name, value)| text_of(&name, value).map(|value| (name, value)))
        .collect()
}

fn text_of(name: &str, value: OsString) -> Result<String, ConfigError> {
    value
        .into_string()
        .map_err(|_not_text| ConfigError::Setting {
            setting: setting_of(name).unwrap_or_default(),
            origin: Origin::Environment,
            message: String::from("the value is not UTF-8"),
        })
}

/// The setting that a variable stands for, if it is one of ours.
fn setting_of(name: &str) -> Option<String> {
    let rest = name.strip_prefix(ENVIRONMENT_PREFIX)?;
    (!NOT_SETTINGS.contains(&name)).then(|| rest.to_ascii_lowercase().replace("__", "."))
}

/// Puts the layers on top of each other and checks the result as a whole.
pub(super) fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let defaults = Layer::of_text(Origin::Default, DEFAULTS)?;
    let known = defaults.settings();
    let mut layers = vec![defaults];
    if let Some(path) = file {
        layers.push(Layer::of_file(path)?);
    }
    layers.push(Layer::of_environment(environment));
    for layer in &layers {
        layer.check_names(&known)?;
    }
    let figment = layers
        .iter()
        .fold(Figment::new(), |figment, layer| figment.merge(layer));
    let origin = |setting: &str| origin_of(&layers, setting);
    let config: Config = figment
        .extract()
        .map_err(|error| unusable(error, &origin))?;
    config.validate().map_err(|invalid| ConfigError::Setting {
        setting: String::from(invalid.setting),
        origin: origin(invalid.setting),
        message: invalid.message,
    })?;
    Ok(config)
}

/// The topmost layer that sets a setting.
fn origin_of(layers: &[Layer], setting: &str) -> Origin {
    layers
        .iter()
        .rev()
        .find(|layer| layer.sets(setting))
        .map_or(Origin::Default, |layer| layer.origin.clone())
}

fn unusable(error: figment::Error, origin: &impl Fn(&str) -> Origin) -> ConfigError {
    let setting = error.path.join(".");
    let message = if let figment::error::Kind::Message(message) = error.kind {
        message
    } else {
        error.kind.to_string()
    };
    ConfigError::Setting {
        origin: origin(&setting),
        setting,
        message,
    }
}

/// What one source sets.
struct Layer {
    origin: Origin,
    values: Dict,
}

impl Layer {
    fn of_text(origin: Origin, text: &str) -> Result<Self, ConfigError> {
        match Toml::from_str::<Dict>(text) {
            Ok(values) => Ok(Self { origin, values }),
            Err(error) => {
                let path = if let Origin::File(path) = origin {
                    path
                } else {
                    PathBuf::new()
                };
                Err(ConfigError::File {
                    path,
                    message: syntax_error(text, &error),
                })
            }
        }
    }

    fn of_file(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| ConfigError::File {
            path: PathBuf::from(path),
            message: format!("it cannot be read: {error}"),
        })?;
        Self::of_text(Origin::File(PathBuf::from(path)), &text)
    }

    fn of_environment(environment: impl Iterator<Item = (String, String)>) -> Self {
        let mut values = Dict::new();
        for (name, value) in environment {
            if let Some(setting) = setting_of(&name) {
                insert(&mut values, &setting, value);
            }
        }
        Self {
            origin: Origin::Environment,
            values,
        }
    }

    /// The dotted names of all that this layer sets.
    fn settings(&self) -> Vec<String> {
        let mut settings = Vec::new();
        collect(&self.values, "", &mut settings);
        settings
    }

    fn sets(&self, setting: &str) -> bool {
        let mut names = setting.split('.');
        let first = names.next().and_then(|name| self.values.get(name));
        names
            .fold(first, |value, name| value?.as_dict()?.get(name))
            .is_some()
    }

    fn check_names(&self, known: &[String]) -> Result<(), ConfigError> {
        for setting in self.settings() {
            if !known.contains(&setting) {
                let message = no_such_setting(&setting, known, &self.origin);
                return Err(ConfigError::Setting {
                    setting,
                    origin: self.origin.clone(),
                    message,
                });
            }
        }
        Ok(())
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named("configuration")
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn insert(values: &mut Dict, setting: &str, value: String) {
    let Some((section, rest)) = setting.split_once('.') else {
        values.insert(String::from(setting), Value::from(value));
        return;
    };
    let inner = values
        .entry(String::from(section))
        .or_insert_with(|| Value::from(Dict::new()));
    // A variable for the section itself is unknown and will be reported as such; keep that one.
    if let Value::Dict(_, inner) = inner {
        insert(inner, rest, value);
    }
}

fn collect(values: &Dict, prefix: &str, settings: &mut Vec<String>) {
    for (name, value) in values {
        let setting = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}.{name}")
        };
        match value.as_dict() {
            Some(inner) => collect(inner, &setting, settings),
            None => settings.push(setting),
        }
    }
}

fn no_such_setting(setting: &str, known: &[String], origin: &Origin) -> String {
    let section = format!("{setting}.");
    if known.iter().any(|name| name.starts_with(&section)) {
        return String::from("this is a section and has no value of its own");
    }
    let shown = |name: &String| match origin {
        Origin::Environment => variable(name),
        Origin::Default | Origin::File(_) => name.clone(),
    };
    known
        .iter()
        .map(|name| (distance(setting, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= SUGGESTION_DISTANCE_MAX)
        .map_or_else(
            || String::from("there is no such setting; config/default.toml describes all"),
            |(_, name)| format!("there is no such setting; did you mean {}?", shown(name)),
        )
}

/// How many characters must be inserted, removed or replaced (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.chars().count()).collect();
    for (index, character) in one.chars().enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        let mut next = vec![left];
        for (above, other) in row.iter().skip(1).zip(other.chars()) {
            let replaced = diagonal + usize::from(character != other);
            left = replaced.min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

/// The parser's message without its drawing of the place, which takes several lines and might show
/// a secret.
fn syntax_error(text: &str, error: &<Toml as Format>::Error) -> String {
    let line = error
        .span()
        .and_then(|span| text.get(..span.start))
        .map(|before| 1 + before.matches('\n').count());
    let message = error
        .message()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    match line {
        Some(line) => format!("line {line}: {message}"),
        None => message,
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path) => write!(formatter, "{}", path.display()),
            Self::Environment => formatter.write_str("environment"),
        }
    }
}
