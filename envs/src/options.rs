//! Options of environments: what a task lets its user change, with defaults, documentation and checks.
//!
//! The macro `options!` declares them once, as the fields of a struct; each field's type says which values
//! it takes.

use crate::nearest;

/// One option, as `steadfast list envs NAME` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvOption {
    /// Name.
    pub key: &'static str,
    /// Value, as it would be given.
    pub value: String,
    /// The values that it takes, in words.
    pub takes: &'static str,
    /// What it does.
    pub doc: String,
}

/// An option that a task does not have, or a value that it does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// The task has no options at all.
    #[error("{env} has no options, so none called '{key}'")]
    None {
        /// The task.
        env: String,
        /// What was asked for.
        key: String,
    },
    /// The task has others.
    #[error("{env} has no option '{key}'; did you mean '{nearest}'? (`steadfast list envs {env}` names all)")]
    Unknown {
        /// The task.
        env: String,
        /// What was asked for.
        key: String,
        /// The option most like it.
        nearest: String,
    },
    /// The value is of the wrong kind or out of range.
    #[error("{env}: option '{key}' takes {takes}, not '{value}'")]
    Value {
        /// The task.
        env: String,
        /// The option.
        key: String,
        /// What was given.
        value: String,
        /// What the option takes.
        takes: &'static str,
    },
    /// Values that are good by themselves, but not together.
    #[error("{env}: {why}")]
    Conflict {
        /// The task.
        env: String,
        /// Which options, what is wrong, and what to change.
        why: String,
    },
}

/// A type of option values.
pub trait OptionValue: Sized {
    /// The values, in words, to follow "takes".
    const TAKES: &'static str;
    /// The value that `text` writes, if it is one.
    fn parse(text: &str) -> Option<Self>;
    /// The text that [`Self::parse`] reads back.
    fn text(&self) -> String;
}

/// A set of options: a struct with a field for each.
pub trait Options: Clone + Default {
    /// All of them.
    fn list(&self) -> Vec<EnvOption>;

    /// Sets one from text. `None` where there is no such key; otherwise whether it took the value.
    fn set(&mut self, key: &str, value: &str) -> Option<bool>;

    /// The defaults with the `given` keys and values in their place; of a key that is given twice the last counts.
    ///
    /// # Errors
    /// For the first unknown key, and for the first value that its option does not take.
    fn of(env: &str, given: &[(&str, &str)]) -> Result<Self, OptionError> {
        Self::default().with(env, given)
    }

    /// These options with the `given` keys and values in their place; of a key that is given twice the last counts.
    ///
    /// # Errors
    /// As [`Self::of`].
    fn with(self, env: &str, given: &[(&str, &str)]) -> Result<Self, OptionError> {
        let mut options = self;
        for (key, value) in given {
            match options.set(key, value) {
                Some(true) => {}
                Some(false) => {
                    let takes = options.list().into_iter().find(|o| o.key == *key).map_or("", |o| o.takes);
                    let (env, key, value) = (env.to_owned(), (*key).to_owned(), (*value).to_owned());
                    return Err(OptionError::Value { env, key, value, takes });
                }
                None => return Err(unknown(env, key, &options.list())),
            }
        }
        Ok(options)
    }
}

/// The options of a task that has none: an error for the first that is given.
pub(crate) fn none(env: &str, given: &[(&str, &str)]) -> Result<Vec<EnvOption>, OptionError> {
    match given.first() {
        None => Ok(Vec::new()),
        Some((key, _)) => Err(unknown(env, key, &[])),
    }
}

/// The error for a key that is not among `options`.
fn unknown(env: &str, key: &str, options: &[EnvOption]) -> OptionError {
    let (env, key) = (env.to_owned(), key.to_owned());
    match nearest(&key, options.iter().map(|o| o.key)) {
        Some(nearest) => OptionError::Unknown { env, nearest: nearest.to_owned(), key },
        None => OptionError::None { env, key },
    }
}

/// A pair of bounds, written `[low, high]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range(pub f64, pub f64);

impl Range {
    /// Whether `x` is strictly between the bounds.
    pub fn holds(self, x: f64) -> bool {
        self.0 < x && x < self.1
    }
}

/// A number of at least 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale(pub f64);

/// A number of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps(pub usize);

/// A finite number above 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Positive(pub f64);

/// A number above 0, or `inf`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit(pub f64);

/// A number from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fraction(pub f64);

/// How many there are of something few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Few(pub usize);

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|x: &f64| !x.is_nan())
}

impl OptionValue for f64 {
    const TAKES: &'static str = "a finite number";
    fn parse(text: &str) -> Option<Self> {
        number(text).filter(|x| x.is_finite())
    }
    fn text(&self) -> String {
        format!("{self:?}")
    }
}

impl OptionValue for bool {
    const TAKES: &'static str = "true or false";
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok()
    }
    fn text(&self) -> String {
        self.to_string()
    }
}

impl OptionValue for Range {
    const TAKES: &'static str = "a range [low, high], where inf and -inf are allowed";
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        let (low, high) = inner.split_once(',')?;
        let (low, high) = (number(low)?, number(high)?);
        (low <= high).then_some(Self(low, high))
    }
    fn text(&self) -> String {
        format!("[{:?}, {:?}]", self.0, self.1)
    }
}

impl OptionValue for Scale {
    const TAKES: &'static str = "a finite number of at least 0";
    fn parse(text: &str) -> Option<Self> {
        f64::parse(text).filter(|x| *x >= 0.0).map(Self)
    }
    fn text(&self) -> String {
        self.0.text()
    }
}

impl OptionValue for Steps {
    const TAKES: &'static str = "a whole number from 1 to 1000";
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|n| (1..=1000).contains(n)).map(Self)
    }
    fn text(&self) -> String {
        self.0.to_string()
    }
}

impl OptionValue for Positive {
    const TAKES: &'static str = "a finite number above 0";
    fn parse(text: &str) -> Option<Self> {
        f64::parse(text).filter(|x| *x > 0.0).map(Self)
    }
    fn text(&self) -> String {
        self.0.text()
    }
}

impl OptionValue for Limit {
    const TAKES: &'static str = "a number above 0, or inf";
    fn parse(text: &str) -> Option<Self> {
        number(text).filter(|x| *x > 0.0).map(Self)
    }
    fn text(&self) -> String {
        self.0.text()
    }
}

impl OptionValue for Fraction {
    const TAKES: &'static str = "a number from 0 to 1";
    fn parse(text: &str) -> Option<Self> {
        number(text).filter(|x| (0.0..=1.0).contains(x)).map(Self)
    }
    fn text(&self) -> String {
        self.0.text()
    }
}

impl OptionValue for Few {
    const TAKES: &'static str = "a whole number from 1 to 64";
    fn parse(text: &str) -> Option<Self> {
        text.trim().parse().ok().filter(|n| (1..=64).contains(n)).map(Self)
    }
    fn text(&self) -> String {
        self.0.to_string()
    }
}

/// Declares an option that takes one of some names, as
/// `choice! { /// Docs. pub enum Name: "one or two" { /// Docs. One = "one", /// Docs. Two = "two" } }`.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $takes:literal {
            $($(#[doc = $doc:literal])+ $variant:ident = $text:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl $crate::options::OptionValue for $name {
            const TAKES: &'static str = $takes;
            fn parse(text: &str) -> Option<Self> {
                match text.trim() {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }
            fn text(&self) -> String {
                match self {
                    $(Self::$variant => $text.to_owned(),)+
                }
            }
        }
    };
}

pub(crate) use choice;

/// Declares a struct of options, with its defaults, as
/// `options! { /// Docs. pub struct Name { /// Docs. key: Type = default, } }`.
macro_rules! options {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[doc = $doc:literal])+ $key:ident: $type:ty = $default:expr,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $key: $type,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)+ }
            }
        }

        impl $crate::options::Options for $name {
            fn list(&self) -> Vec<$crate::options::EnvOption> {
                use $crate::options::OptionValue;
                vec![$($crate::options::EnvOption {
                    key: stringify!($key),
                    value: self.$key.text(),
                    takes: <$type>::TAKES,
                    doc: concat!($($doc),+).trim().to_owned(),
                },)+]
            }

            fn set(&mut self, key: &str, value: &str) -> Option<bool> {
                use $crate::options::OptionValue;
                match key {
                    $(stringify!($key) => {
                        let value = <$type>::parse(value);
                        let good = value.is_some();
                        if let Some(value) = value {
                            self.$key = value;
                        }
                        Some(good)
                    })+
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use options;

#[cfg(test)]
mod tests {
    use super::*;

    options! {
        /// For the tests.
        pub struct Some {
            /// How much it weighs.
            weight: f64 = 0.5,
            /// Where it lives.
            healthy_range: Range = Range(0.2, f64::INFINITY),
            /// Whether it
            /// lives.
            alive: bool = true,
            /// How often.
            frame_skip: Steps = Steps(5),
            /// How loud.
            noise: Scale = Scale(0.1),
            /// How heavy.
            mass: Positive = Positive(1.0),
            /// How fast at most.
            speed: Limit = Limit(f64::INFINITY),
            /// How much of it.
            share: Fraction = Fraction(0.5),
            /// How many.
            legs: Few = Few(4),
            /// Which way.
            side: Side = Side::Left,
        }
    }

    choice! {
        /// For the tests.
        pub enum Side: "left or right" {
            /// That way.
            Left = "left",
            /// The other way.
            Right = "right",
        }
    }

    #[test]
    fn values_are_read_as_they_are_written() {
        let given = [
            ("weight", "-1e-3"),
            ("healthy_range", "[-inf, 2]"),
            ("alive", "false"),
            ("frame_skip", "7"),
            ("side", "right"),
        ];
        let options = Some::of("X", &given).unwrap();
        assert_eq!((options.weight, options.alive, options.frame_skip), (-1e-3, false, Steps(7)));
        assert_eq!(options.healthy_range, Range(f64::NEG_INFINITY, 2.0));
        let written = options.list();
        let again: Vec<(&str, &str)> = written.iter().map(|o| (o.key, o.value.as_str())).collect();
        assert_eq!(Some::of("X", &again).unwrap().list(), written);
        assert_eq!(written[2].doc, "Whether it lives.");
        assert_eq!(Some::of("X", &[("healthy_range", "1, 2")]).unwrap().healthy_range, Range(1.0, 2.0));
    }

    #[test]
    fn bad_options_are_named() {
        let error = |key, value| Some::of("X", &[(key, value)]).unwrap_err().to_string();
        assert!(error("wait", "1").contains("no option 'wait'; did you mean 'weight'?"));
        for (key, value) in [
            ("weight", "inf"),
            ("weight", "heavy"),
            ("weight", "nan"),
            ("healthy_range", "[2, 1]"),
            ("healthy_range", "3"),
            ("healthy_range", "[nan, 1]"),
            ("alive", "yes"),
            ("frame_skip", "0"),
            ("frame_skip", "2.5"),
            ("noise", "-0.1"),
            ("mass", "0"),
            ("mass", "inf"),
            ("speed", "-1"),
            ("share", "1.1"),
            ("legs", "0"),
            ("legs", "65"),
            ("side", "up"),
        ] {
            let message = error(key, value);
            assert!(
                message.contains(&format!("'{key}' takes ")) && message.ends_with(&format!("not '{value}'"))
            );
        }
        assert!(unknown("X", "a", &[]).to_string().contains("X has no options"));
    }
}
