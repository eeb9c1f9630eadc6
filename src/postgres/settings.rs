//! What is set for each session, or, where sessions are shared, for each transaction.
//!
//! Nothing is set as the connection begins, by `options`: poolers refuse or drop them.

use super::config::{PostgresConfig, invalid};
use super::schema::quoted;
use crate::error::Result;

/// Settings by name, those of later ones prevailing.
#[derive(Clone)]
pub(super) struct Settings {
    pairs: Vec<(String, String)>,
    /// The schema in which alone names are looked up, if it is known.
    schema: Option<String>,
}

impl Settings {
    /// Those of a configuration.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if its `options` hold anything but settings.
    pub(super) fn new(config: &PostgresConfig) -> Result<Self> {
        let mut pairs = Vec::new();
        if !config.statement_timeout.is_zero() {
            let millis = format!("{}ms", config.statement_timeout.as_millis().max(1));
            pairs.push(("statement_timeout".to_owned(), millis));
        }
        // Values decide the best plan of a page or a group, a state or queue being common or
        // rare: a plan for all values would be cheap to reuse and now and then very slow.
        pairs.push(("plan_cache_mode".to_owned(), "force_custom_plan".to_owned()));
        // What the caller sets comes last, and so prevails.
        pairs.extend(parse_options(&config.options)?);
        Ok(Self { pairs, schema: config.schema.clone() })
    }

    /// The same, with names looked up in one schema alone.
    pub(super) fn in_schema(self, name: &str) -> Self {
        Self { schema: Some(name.to_owned()), ..self }
    }

    /// Sets them until the session ends.
    pub(super) fn for_session(&self) -> String {
        let path = self.schema.iter().map(|name| set("search_path", &quoted(name), false));
        let calls: Vec<_> = self.pairs.iter().map(|(name, value)| set(name, value, false)).chain(path).collect();
        format!("SELECT {}", calls.join(", "))
    }

    /// Begins a transaction and sets them until it ends.
    pub(super) fn for_transaction(&self) -> String {
        let mut first = String::from("BEGIN");
        let mut calls = Vec::new();
        for (name, value) in &self.pairs {
            // These are for transactions that begin later; this one has settings of its own, to be made before all else.
            match name.strip_prefix("default_transaction_") {
                Some(rest) => first.push_str(&format!("; SET LOCAL transaction_{rest} = {}", literal(value))),
                None => calls.push(set(name, value, true)),
            }
        }
        // Temporary tables come after the schema, for another user of the session may have made one with the name of
        // a table of ours.
        calls.extend(self.schema.iter().map(|name| set("search_path", &format!("{}, pg_temp", quoted(name)), true)));
        format!("{first}; SELECT {}", calls.join(", "))
    }
}

/// Sets the schema until the transaction ends, for a session that has all other settings.
pub(super) fn begin_in_schema(name: &str) -> String {
    format!("BEGIN; SET LOCAL search_path = {}", quoted(name))
}

fn set(name: &str, value: &str, until_commit: bool) -> String {
    format!("set_config({}, {}, {until_commit})", literal(name), literal(value))
}

/// A text as SQL, whatever `standard_conforming_strings` is.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', r"\\").replace('\'', "''"))
}

/// The settings among a server's command-line options: `-c name=value` and `--name=value`, where a backslash takes the
/// next character as it is and dashes in a name stand for underscores.
fn parse_options(options: &str) -> Result<Vec<(String, String)>> {
    let refused = || invalid("options may only hold settings: -c name=value or --name=value");
    let mut settings = Vec::new();
    let mut words = split_options(options).into_iter();
    while let Some(word) = words.next() {
        let setting = match (word.as_str(), word.strip_prefix("--"), word.strip_prefix("-c")) {
            ("-c", _, _) => words.next().ok_or_else(refused)?,
            (_, Some(setting), _) | (_, None, Some(setting)) => setting.to_owned(),
            _ => return Err(refused()),
        };
        let (name, value) = setting.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(refused)?;
        if setting.contains('\0') {
            return Err(refused());
        }
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

fn split_options(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        match character {
            blank if blank.is_ascii_whitespace() => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(characters.next()),
            plain => word.get_or_insert_default().push(plain),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_settings_by_the_servers_rules() {
        let options = r"-c search_path=a\ b,c  -cjit=off --lock-timeout=5s -c x.y=\\\'";
        let expected = [("search_path", "a b,c"), ("jit", "off"), ("lock_timeout", "5s"), ("x.y", r"\'")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parse_options(options).unwrap(), expected);
        for refused in ["-c", "-c name", "-B 5", "name=value", "-c =value"] {
            assert!(parse_options(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn settings_are_literals_and_the_schema_is_last() {
        let text = "-c default_transaction_read_only=on -c search_path=theirs -c x.y=it's\\\\";
        let config = PostgresConfig { options: text.to_owned(), ..PostgresConfig::default() };
        let settings = Settings::new(&config).unwrap().in_schema(r#"my "odd\ schema"#);
        assert_eq!(
            settings.for_transaction(),
            "BEGIN; SET LOCAL transaction_read_only = E'on'; SELECT set_config(E'plan_cache_mode', \
             E'force_custom_plan', true), set_config(E'search_path', E'theirs', true), set_config(E'x.y', E'it''s\\\\', \
             true), set_config(E'search_path', E'\"my \"\"odd\\\\ schema\", pg_temp', true)"
        );
        assert!(settings.for_session().contains("set_config(E'default_transaction_read_only', E'on', false)"));
    }
}
