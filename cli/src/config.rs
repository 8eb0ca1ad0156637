//! Reading settings: a TOML file, the environment, `--set`.
//!
//! Owns: how a TOML file spells settings, which environment variables are looked at.
//! Does not own: keys and values (`esker_agent::settings`).

use std::path::Path;

use esker_agent::settings::{
    Assignment, Origin, Profile, Settings, env_name, is_reserved_env, key_of_env, nearest_key,
};

use crate::UsageError;

/// `KEY=VALUE` as somebody typed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    key: String,
    value: String,
}

/// Splits `KEY=VALUE` at the first equals sign.
pub(crate) fn said(text: &str) -> Result<Said, String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is needed")?;
    Ok(Said {
        key: key.trim().to_owned(),
        value: value.to_owned(),
    })
}

/// Profile, then file, then environment, then `--set`, then flags of their own; the last word wins.
pub(crate) fn resolve(
    profile: Profile,
    file: Option<&Path>,
    set: Vec<Said>,
    flags: Vec<Assignment>,
) -> Result<Settings, UsageError> {
    let assignments = assignments(file, set, flags)?;
    Settings::resolve(profile, assignments).map_err(|error| UsageError(error.to_string()))
}

/// Everything that was said, in the order in which it counts.
pub(crate) fn assignments(
    file: Option<&Path>,
    set: Vec<Said>,
    flags: Vec<Assignment>,
) -> Result<Vec<Assignment>, UsageError> {
    let mut assignments = match file {
        Some(path) => read_file(path)?,
        None => Vec::new(),
    };
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        // A name that is not Unicode is not ours; a value that is not will break its key's rule.
        Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
    });
    assignments.extend(from_environment(variables)?);
    assignments.extend(set.into_iter().map(|said| Assignment {
        name: said.key,
        value: said.value,
        origin: Origin::CommandLine,
    }));
    assignments.extend(flags);
    Ok(assignments)
}

fn from_environment(variables: impl Iterator<Item = (String, String)>) -> Result<Vec<Assignment>, UsageError> {
    let mut found = Vec::new();
    for (variable, value) in variables.filter(|(variable, _)| !is_reserved_env(variable)) {
        let Some(key) = key_of_env(&variable) else {
            let nearest = nearest_env(&variable);
            return Err(UsageError(format!(
                "there is no setting for environment variable {variable}; did you mean {nearest}?"
            )));
        };
        found.push(Assignment {
            name: key.to_owned(),
            value,
            origin: Origin::Environment(variable),
        });
    }
    Ok(found)
}

/// A variable may stand for a key of Kafka's or for one of ours, whose prefix it then lacks.
fn nearest_env(variable: &str) -> String {
    let key = variable
        .trim_start_matches("ESKER_")
        .to_ascii_lowercase()
        .replace('_', ".");
    let candidates = [
        env_name(nearest_key(&key)),
        env_name(nearest_key(&format!("esker.{key}"))),
    ];
    let [kafkas, ours] = candidates.map(|name| (strsim::damerau_levenshtein(&name, variable), name));
    kafkas.min(ours).1
}

fn read_file(path: &Path) -> Result<Vec<Assignment>, UsageError> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| UsageError(format!("cannot read configuration file {shown}: {error}")))?;
    let pairs = from_toml(&text).map_err(|reason| UsageError(format!("configuration file {shown}: {reason}")))?;
    let origin = Origin::File(shown);
    Ok(pairs
        .into_iter()
        .map(|(name, value)| Assignment {
            name,
            value,
            origin: origin.clone(),
        })
        .collect())
}

/// Settings by full name. `a.b = 1`, `[a]` with `b = 1`, and `"a.b" = 1` are all the same to us; only the last can
/// say both `max.connections` and `max.connections.per.ip`, which to TOML are a number and a table of one name.
fn from_toml(text: &str) -> Result<Vec<(String, String)>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        format!(
            "{} (settings are best written with quotes, as in \"num.partitions\" = 3)",
            error.to_string().trim_end()
        )
    })?;
    let mut pairs = Vec::new();
    flatten("", table, &mut pairs)?;
    Ok(pairs)
}

fn flatten(prefix: &str, table: toml::Table, pairs: &mut Vec<(String, String)>) -> Result<(), String> {
    for (name, value) in table {
        let name = if prefix.is_empty() {
            name
        } else {
            format!("{prefix}.{name}")
        };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, pairs)?,
            toml::Value::Array(items) => {
                let words = items
                    .into_iter()
                    .map(|item| scalar(&name, item))
                    .collect::<Result<Vec<_>, _>>()?;
                pairs.push((name, words.join(",")));
            }
            value => {
                let text = scalar(&name, value)?;
                pairs.push((name, text));
            }
        }
    }
    Ok(())
}

fn scalar(name: &str, value: toml::Value) -> Result<String, String> {
    match value {
        toml::Value::String(text) => Ok(text),
        toml::Value::Integer(number) => Ok(number.to_string()),
        toml::Value::Float(number) => Ok(number.to_string()),
        toml::Value::Boolean(truth) => Ok(truth.to_string()),
        toml::Value::Datetime(_) | toml::Value::Array(_) | toml::Value::Table(_) => {
            Err(format!("{name} must be a text, a number, true or false"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Result<Vec<Assignment>, UsageError> {
        from_environment(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
    }

    #[test]
    fn toml_names_are_settings_however_they_are_nested() {
        let text = "\"max.connections\" = 5\n\"max.connections.per.ip\" = 2\n\
                    [esker.flush]\nage = \"5ms\"\n[auto]\ncreate.topics.enable = false\n";
        let mut pairs = from_toml(text).unwrap();
        pairs.sort();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [
                ("auto.create.topics.enable", "false"),
                ("esker.flush.age", "5ms"),
                ("max.connections", "5"),
                ("max.connections.per.ip", "2"),
            ]
        );
    }

    #[test]
    fn toml_lists_are_joined() {
        let pairs = from_toml("\"log.cleanup.policy\" = [\"compact\", \"delete\"]").unwrap();
        assert_eq!(pairs, [("log.cleanup.policy".to_owned(), "compact,delete".to_owned())]);
    }

    #[test]
    fn broken_toml_says_where_and_how() {
        let error = from_toml("max.connections = 5\nmax.connections.per.ip = 2\n").expect_err("a number and a table");
        assert!(error.contains("line 2") && error.contains("quotes"), "{error}");
        assert!(
            from_toml("num.partitions = 1979-05-27")
                .expect_err("a date")
                .contains("num.partitions")
        );
    }

    #[test]
    fn the_environment_says_settings() {
        let found = env(&[("PATH", "/bin"), ("ESKER_LOG", "debug"), ("ESKER_FLUSH_AGE", "7ms")]).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].name.as_str(), found[0].value.as_str()),
            ("esker.flush.age", "7ms")
        );
    }

    #[test]
    fn an_unknown_variable_names_the_nearest() {
        let refused = |name| env(&[(name, "1")]).expect_err("must be refused").to_string();
        assert!(refused("ESKER_NUM_PARTITION").ends_with("did you mean ESKER_NUM_PARTITIONS?"));
        assert!(refused("ESKER_FLUSHAGE").ends_with("did you mean ESKER_FLUSH_AGE?"));
    }

    #[test]
    fn values_may_hold_an_equals_sign() {
        assert_eq!(
            said("a=b=c").unwrap(),
            Said {
                key: "a".to_owned(),
                value: "b=c".to_owned()
            }
        );
    }
}
