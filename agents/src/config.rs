//! Options of agents as TOML tables: layering, and errors that name the key.

use serde::{Serialize, de::DeserializeOwned};
use steadfast_envs::nearest;
use toml::{Table, Value};

use crate::BuildError;

/// A configuration as a table. Every configuration struct of this crate serialises.
pub fn table<T: Serialize>(config: &T) -> Table {
    Table::try_from(config).unwrap_or_default()
}

/// Sets the options of `over` in `base`, which holds all options there are.
///
/// # Errors
/// For an option that `base` does not have, and for a value of another type.
pub fn merge(base: &mut Table, over: &Table) -> Result<(), BuildError> {
    for (key, value) in over {
        let Some(old) = base.get(key) else {
            let near = nearest(key, base.keys().map(String::as_str)).unwrap_or_default().to_owned();
            return Err(BuildError::UnknownKey { key: key.clone(), nearest: near });
        };
        let value = match (old, value) {
            (Value::Float(_), Value::Integer(i)) => Value::Float(*i as f64),
            // All whole-number options count something.
            (Value::Integer(_), Value::Integer(i)) if *i < 0 => {
                return Err(bad(key, format!("must be a whole number of at least 0, got {i}")));
            }
            (Value::Integer(_), Value::Float(x)) if x.fract() == 0.0 && (0.0..9e15).contains(x) => {
                Value::Integer(*x as i64)
            }
            (old, new) if old.type_str() == new.type_str() => new.clone(),
            (old, new) => {
                let expected = type_name(old);
                return Err(bad(
                    key,
                    format!("must be {expected} such as {old}, got {} ({new})", type_name(new)),
                ));
            }
        };
        base.insert(key.clone(), value);
    }
    Ok(())
}

/// The configuration that a complete table describes; `defaults` serve to find the key of a bad value.
///
/// # Errors
/// For a value that the option cannot take.
pub fn parse<T: DeserializeOwned>(table: &Table, defaults: &Table) -> Result<T, BuildError> {
    table.clone().try_into().map_err(|error: toml::de::Error| {
        // Which key is to blame: the one that fails alone among defaults.
        let guilty = table.iter().find_map(|(key, value)| {
            let mut probe = defaults.clone();
            probe.insert(key.clone(), value.clone());
            let error = probe.try_into::<T>().err()?;
            Some(bad(key, error.message().to_owned()))
        });
        guilty.unwrap_or_else(|| bad("?", error.message().to_owned()))
    })
}

/// Reads `key=value`, the value in TOML's notation; bare words are strings.
///
/// # Errors
/// When there is no `=`.
pub fn assignment(text: &str) -> Result<(String, Value), BuildError> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(bad(text, "write it as key=value, for example gamma=0.99".to_owned()));
    };
    let (key, value) = (key.trim(), value.trim());
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    Ok((key.to_owned(), parsed.unwrap_or_else(|| Value::String(value.to_owned()))))
}

/// A [`BuildError::BadValue`].
pub fn bad(key: &str, why: String) -> BuildError {
    BuildError::BadValue { key: key.to_owned(), why }
}

/// Checks `low` ≤ `value` ≤ `high`.
///
/// # Errors
/// Names the key and the range.
pub fn within(key: &str, value: f64, low: f64, high: f64) -> Result<(), BuildError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let range =
        if high.is_infinite() { format!("at least {low}") } else { format!("between {low} and {high}") };
    Err(bad(key, format!("must be {range}, got {value}")))
}

/// Checks `value` > 0.
///
/// # Errors
/// Names the key.
pub fn positive(key: &str, value: f64) -> Result<(), BuildError> {
    if value > 0.0 && value.is_finite() {
        Ok(())
    } else {
        Err(bad(key, format!("must be above 0, got {value}")))
    }
}

/// Checks `value` ≥ `low`.
///
/// # Errors
/// Names the key and the bound.
pub fn at_least(key: &str, value: usize, low: usize) -> Result<(), BuildError> {
    if value >= low { Ok(()) } else { Err(bad(key, format!("must be at least {low}, got {value}"))) }
}

/// Checks 1 ≤ `value` ≤ `high`: what is allocated must fit into memory.
///
/// # Errors
/// Names the key and the range.
pub fn size(key: &str, value: usize, high: usize) -> Result<(), BuildError> {
    at_least(key, value, 1)?;
    if value <= high { Ok(()) } else { Err(bad(key, format!("must be at most {high}, got {value}"))) }
}

/// Checks the widths of hidden layers.
///
/// # Errors
/// Names the key and the range.
pub fn widths(key: &str, hidden: &[usize]) -> Result<(), BuildError> {
    if hidden.len() > 16 {
        return Err(bad(key, format!("must have at most 16 layers, got {}", hidden.len())));
    }
    hidden.iter().try_for_each(|width| size(key, *width, 8192))
}

/// Checks the copies of the environment and the steps of each in an iteration, which are held in memory together.
///
/// # Errors
/// Names the key and the range.
pub fn rollout(num_envs: usize, horizon: usize) -> Result<(), BuildError> {
    size("num_envs", num_envs, 1 << 20)?;
    size("horizon", horizon, 1 << 28)?;
    if num_envs * horizon > 1 << 28 {
        let why = format!("times num_envs must be at most {}, got {horizon} times {num_envs}", 1 << 28);
        return Err(bad("horizon", why));
    }
    Ok(())
}

/// Checks what a replay buffer and a run of `total_steps` can give.
///
/// # Errors
/// Names the key that does not fit.
pub fn replay(
    minibatch: usize,
    buffer: usize,
    learning_starts: usize,
    total_steps: u64,
) -> Result<(), BuildError> {
    at_least("minibatch", minibatch, 1)?;
    if minibatch > buffer {
        let why = format!("must not be larger than the buffer of {buffer}, got {minibatch}");
        return Err(bad("minibatch", why));
    }
    if u32::try_from(buffer).is_err() {
        return Err(bad("buffer", format!("must be below 2^32, got {buffer}")));
    }
    if learning_starts as u64 >= total_steps {
        let why = format!(
            "must be below the {total_steps} steps of the run, got {learning_starts}: nothing would be learnt"
        );
        return Err(bad("learning_starts", why));
    }
    Ok(())
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a word",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Array(_) => "a list",
        Value::Datetime(_) => "a date",
        Value::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(base: &mut Table, text: &str) -> Result<(), BuildError> {
        let (key, value) = assignment(text)?;
        merge(base, &Table::from_iter([(key, value)]))
    }

    #[test]
    fn layers_override_and_widen_numbers() {
        let mut table = table(&crate::ppo::Config::default());
        for text in ["gamma=1", "hidden=[32]", "activation=relu", "horizon=1e3", "normalize_obs=true"] {
            set(&mut table, text).unwrap();
        }
        let config: crate::ppo::Config = parse(&table, &table).unwrap();
        assert_eq!((config.on_policy.gamma, config.on_policy.horizon), (1.0, 1000));
        assert_eq!(config.on_policy.net.hidden, [32]);
    }

    #[test]
    fn errors_name_the_key_and_the_nearest_one() {
        let defaults = table(&crate::ppo::Config::default());
        let error = |text: &str| {
            let mut table = defaults.clone();
            match set(&mut table, text) {
                Err(e) => e.to_string(),
                Ok(()) => {
                    parse::<crate::ppo::Config>(&table, &defaults).err().map(|e| e.to_string()).unwrap()
                }
            }
        };
        assert_eq!(error("gama=0.9"), "unknown option 'gama'; did you mean 'gamma'?");
        assert!(error("horizon=-3").contains("'horizon': must be a whole number of at least 0, got -3"));
        assert!(error("horizon=0.5").contains("'horizon': must be a whole number"));
        assert!(error("gamma=high").contains("'gamma': must be a number such as 0.99"));
        assert!(error("activation=sine").contains("'activation': unknown variant `sine`"));
        assert!(error("nonsense").contains("key=value"));
    }
}
