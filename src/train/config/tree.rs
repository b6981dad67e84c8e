//! Reads, sets and compares configs through the TOML tree that serde makes of them, so that there is no second list of keys.

use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::RunConfig;
use crate::error::{Error, Result, brief, excerpt, suggestion};

impl RunConfig {
    /// The whole config as TOML, with every key.
    ///
    /// # Errors
    /// [`Error::Usage`] for a number that TOML cannot hold, which `validate` refuses.
    pub fn to_toml(&self) -> Result<String> {
        self.tree()?; // the text writer would emit a number that no reader accepts
        toml::to_string(self).map_err(|e| Error::usage(format!("the config cannot be written as TOML: {e}")))
    }

    /// Parses the config in `text`; missing keys have the values of the default preset. Does not `validate`.
    ///
    /// # Errors
    /// As [`RunConfig::overlay`].
    pub fn from_toml(text: &str, origin: &Path) -> Result<RunConfig> {
        let mut config = RunConfig::default();
        config.overlay(text, origin)?;
        Ok(config)
    }

    /// Sets the keys that `text` contains and keeps the others. Does not `validate`.
    ///
    /// # Errors
    /// [`Error::File`] with `origin`, the line, the key and the expected value; `self` is then unchanged.
    pub fn overlay(&mut self, text: &str, origin: &Path) -> Result<()> {
        let at = |offset: usize, problem: &str| {
            let line = 1 + text.bytes().take(offset).filter(|b| *b == b'\n').count();
            Error::file(origin, format!("line {line}: {}", problem.trim().replace('\n', ", ")))
        };
        // The parser's message may quote a whole value.
        let syntax = |e: toml::de::Error| at(e.span().map_or(0, |span| span.start), &brief(e.message()));
        // Parsed twice: the first tree has each key's position, and numbers as text; the second has plain values.
        let places = DeTable::parse(text).map_err(syntax)?;
        for (section, content) in places.get_ref() {
            let (start, section): (usize, &str) = (section.span().start, section.get_ref());
            let keys = content.get_ref().as_table();
            let keys = keys.ok_or_else(|| at(start, &self.misplaced(section)))?;
            self.section(section).map_err(|problem| at(start, &problem))?;
            for (key, value) in keys {
                let like = self.like(section, key.get_ref()).map_err(|problem| at(key.span().start, &problem))?;
                if is_beyond_toml(value.get_ref()) {
                    let path = format!("{section}.{}", key.get_ref());
                    return Err(at(key.span().start, &refusal(&path, &text[value.span()], &like)));
                }
            }
        }
        let values: Table = toml::from_str(text).map_err(syntax)?;
        let mut config = self.clone();
        for (section, content) in places.get_ref() {
            for (key, _) in content.get_ref().as_table().into_iter().flatten() {
                let (section, key, start): (&str, &str, usize) = (section.get_ref(), key.get_ref(), key.span().start);
                let value = values.get(section).and_then(|keys| keys.get(key)).cloned();
                let done = value.map_or(Ok(()), |value| config.assign(section, key, value));
                done.map_err(|problem| at(start, &problem))?;
            }
        }
        *self = config;
        Ok(())
    }

    /// Sets one key from `section.key=value`. The value is parsed as the key's type and needs no quotes; a list is written `a,b` or as in
    /// TOML. Does not `validate`.
    ///
    /// # Errors
    /// [`Error::Usage`] that suggests the nearest key, or names the given value and the expected type.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let Some((path, text)) = assignment.split_once('=') else {
            let path = excerpt(assignment.trim());
            return Err(Error::usage(format!("`{path}` is not an assignment: write section.key=value, such as train.steps=2000")));
        };
        let (path, text) = (path.trim(), text.trim());
        let (section, key) = path.split_once('.').ok_or_else(|| Error::usage(self.misplaced(path)))?;
        let present = self.tree()?.get(section).and_then(|s| s.get(key)).cloned();
        let value = match &present {
            Some(like) => parse_like(like, text).ok_or_else(|| Error::usage(refusal(path, text, like)))?,
            None => Value::Boolean(true), // any value: `assign` reports the unknown key
        };
        self.assign(section, key, value).map_err(Error::usage)
    }

    /// The keys whose values differ, as (`section.key`, value in `self`, value in `other`), with the values as TOML.
    ///
    /// # Errors
    /// As [`RunConfig::to_toml`].
    pub fn differences(&self, other: &RunConfig) -> Result<Vec<(String, String, String)>> {
        let (old, new) = (self.tree()?, other.tree()?);
        let values = paths(&old).map(|(section, key)| (format!("{section}.{key}"), &old[section][key], &new[section][key]));
        let differing = values.filter(|(_, old, new)| old != new);
        Ok(differing.map(|(path, old, new)| (path, old.to_string(), new.to_string())).collect())
    }

    fn tree(&self) -> Result<Table> {
        Table::try_from(self).map_err(|e| Error::usage(format!("the config cannot be written as TOML: {e}")))
    }

    /// The tree, after checking that it contains `section`.
    fn section(&self, section: &str) -> Result<Table, String> {
        let tree = self.tree().map_err(|e| e.to_string())?;
        let names = tree.keys().map(String::as_str);
        if tree.contains_key(section) {
            return Ok(tree);
        }
        Err(format!("unknown section `{}`: {}", excerpt(section), suggestion(section, names)))
    }

    /// The current value of a key.
    fn like(&self, section: &str, key: &str) -> Result<Value, String> {
        let mut tree = self.section(section)?;
        let Some(Value::Table(keys)) = tree.get_mut(section) else { return Err(format!("`{section}` is no section")) };
        let names = keys.keys().map(String::as_str);
        let unknown = format!("unknown key `{}` in [{section}]: {}", excerpt(key), suggestion(key, names));
        keys.remove(key).ok_or(unknown)
    }

    /// Assigns a value of the same type to a key. The error is a clause for the caller to complete.
    fn assign(&mut self, section: &str, key: &str, value: Value) -> Result<(), String> {
        let old = self.like(section, key)?;
        let value = match (&old, value) {
            (Value::Float(_), Value::Integer(whole)) => Value::Float(whole as f64),
            (_, value) => value,
        };
        let (path, found) = (format!("{section}.{key}"), value.to_string());
        let refused = refusal(&path, &found, &old);
        if !old.same_type(&value) {
            return Err(refused);
        }
        let mut tree = self.section(section)?;
        if let Some(keys) = tree.get_mut(section).and_then(Value::as_table_mut) {
            keys.insert(key.to_owned(), value);
        }
        *self = Value::Table(tree).try_into().map_err(|e: toml::de::Error| match e.message().split_once(", expected ") {
            Some((unknown, names)) if unknown.starts_with("unknown variant") => format!("{path} = {}: needs {names}", excerpt(&found)),
            _ => refused,
        })?;
        Ok(())
    }

    /// The error for a name in the place of a section, with the key that was probably meant.
    fn misplaced(&self, name: &str) -> String {
        let tree = self.tree().unwrap_or_default();
        if tree.contains_key(name) {
            return format!("`{name}` is a section, it takes no value");
        }
        let near = |key: &str| strsim::jaro_winkler(name, key);
        let best = paths(&tree).max_by(|(_, a), (_, b)| near(a).total_cmp(&near(b)));
        let ((section, key), name) = (best.unwrap_or_default(), excerpt(name));
        format!("`{name}` is in no section: did you mean `{section}.{key}`?")
    }
}

/// Every (section, key) of a config's tree.
fn paths(tree: &Table) -> impl Iterator<Item = (&str, &str)> {
    let sections = tree.iter().filter_map(|(section, content)| Some((section.as_str(), content.as_table()?)));
    sections.flat_map(|(section, keys)| keys.keys().map(move |key| (section, key.as_str())))
}

/// Parses `text` as a value of the same type as `like`.
fn parse_like(like: &Value, text: &str) -> Option<Value> {
    match like {
        Value::String(_) => Some(Value::String(bare(text).to_string())),
        Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
        Value::Integer(_) => text.replace('_', "").parse().ok().map(Value::Integer),
        Value::Float(_) => text.replace('_', "").parse().ok().map(Value::Float),
        Value::Array(_) if text.starts_with('[') => toml::from_str::<Table>(&format!("list = {text}")).ok()?.remove("list"),
        Value::Array(_) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Some(Value::Array(items.map(|item| Value::String(bare(item).to_string())).collect()))
        }
        Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// Removes the quotes that a shell left around a value.
fn bare(text: &str) -> &str {
    let within = |quote: char| text.strip_prefix(quote).and_then(|t| t.strip_suffix(quote));
    within('"').or_else(|| within('\'')).unwrap_or(text)
}

/// Whether a value is, or contains, a number that TOML can write but no reader can hold: an integer beyond i64, or a float beyond f64.
fn is_beyond_toml(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::Integer(whole) => i64::from_str_radix(&whole.as_str().replace('_', ""), whole.radix()).is_err(),
        DeValue::Float(number) => number.as_str().contains(|c: char| c.is_ascii_digit()) && is_infinite(number.as_str()),
        DeValue::Array(items) => items.iter().any(|item| is_beyond_toml(item.get_ref())),
        DeValue::Table(keys) => keys.iter().any(|(_, value)| is_beyond_toml(value.get_ref())),
        _ => false,
    }
}

fn is_infinite(number: &str) -> bool {
    number.replace('_', "").parse::<f64>().is_ok_and(f64::is_infinite)
}

fn refusal(path: &str, found: &str, like: &Value) -> String {
    let needed = match like {
        Value::String(_) => "a string in quotes",
        Value::Boolean(_) => "true or false",
        Value::Integer(_) if is_above_i64(found) => return format!("{path} = {}: needs at most {}", excerpt(found), i64::MAX),
        Value::Integer(_) => "a whole number, 0 or more",
        Value::Float(_) if is_infinite(found) => "a number that 64-bit floats can hold",
        Value::Float(_) if is_above_i64(found) => "a decimal point or an exponent at this size, as in 1e20",
        Value::Float(_) => "a number",
        Value::Array(_) => "a list of strings",
        Value::Datetime(_) | Value::Table(_) => "a value that cannot be set",
    };
    format!("{path} = {}: needs {needed}", excerpt(found))
}

/// Whether it is a whole number beyond i64, in decimal or in one of TOML's other bases.
fn is_above_i64(found: &str) -> bool {
    let plain = found.trim().replace('_', "");
    let plain = plain.strip_prefix('+').unwrap_or(&plain);
    let bases = [("0x", 16), ("0o", 8), ("0b", 2)];
    let (digits, radix) = bases.iter().find_map(|(prefix, radix)| Some((plain.strip_prefix(prefix)?, *radix))).unwrap_or((plain, 10));
    let whole = !digits.is_empty() && digits.chars().all(|c| c.is_digit(radix));
    whole && i64::from_str_radix(digits, radix).is_err()
}
