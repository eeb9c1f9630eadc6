//! The server settings that results depend on. They are made for each dedicated session, and for each transaction of a
//! shared one.
//!
//! They are not sent in the `options` of the startup packet, which poolers reject or drop.

use super::config::PostgresConfig;
use super::statement::{identifier, literal};

/// Settings by name. A later setting overrides an earlier one with the same name.
#[derive(Clone)]
pub(super) struct Settings {
    pairs: Vec<(String, String)>,
    /// The only schema of the search path, once it is known.
    schema: Option<String>,
}

impl Settings {
    /// The settings of a configuration.
    pub(super) fn new(config: &PostgresConfig) -> Self {
        let mut pairs = Vec::new();
        if let Some(timeout) = config.statement_timeout {
            let shortest = u128::from(!timeout.is_zero());
            pairs.push(("statement_timeout".to_owned(), format!("{}ms", timeout.as_millis().max(shortest))));
        }
        // The best plan depends on the values, because the frequencies of states and queues differ. A generic plan
        // would save planning time, but be inefficient for some values.
        pairs.push(("plan_cache_mode".to_owned(), "force_custom_plan".to_owned()));
        // A limit makes searches of GIN indexes return a random part of the rows.
        pairs.push(("gin_fuzzy_search_limit".to_owned(), "0".to_owned()));
        // The user's settings override the backend's.
        pairs.extend(config.settings.iter().cloned());
        Self { pairs, schema: config.schema.clone() }
    }

    /// The same settings, with a schema as the search path.
    pub(super) fn in_schema(self, name: &str) -> Self {
        Self { schema: Some(name.to_owned()), ..self }
    }

    /// The statement that makes the settings for the session.
    pub(super) fn for_session(&self) -> String {
        let path = self.schema.iter().map(|name| set("search_path", &identifier(name), false));
        let calls: Vec<_> = self.pairs.iter().map(|(name, value)| set(name, value, false)).chain(path).collect();
        format!("SELECT {}", calls.join(", "))
    }

    /// The statements that begin a transaction with further characteristics and make the settings for the transaction.
    pub(super) fn for_transaction(&self, characteristics: &str) -> String {
        let mut first = String::from("BEGIN");
        let mut calls = Vec::new();
        for (name, value) in &self.pairs {
            // The default of a transaction characteristic affects only later transactions, and the characteristic of
            // this transaction must be set before its first query.
            match name.strip_prefix("default_transaction_") {
                Some(rest) => first.push_str(&format!("; SET LOCAL transaction_{rest} = {}", literal(value))),
                None => calls.push(set(name, value, true)),
            }
        }
        // The schema precedes pg_temp: another client of the pooler may have left a temporary table with the name of a
        // table of the store.
        calls
            .extend(self.schema.iter().map(|name| set("search_path", &format!("{}, pg_temp", identifier(name)), true)));
        format!("{first}{characteristics}; SELECT {}", calls.join(", "))
    }
}

/// The statements that begin a transaction in a session with all settings, and set the search path for the transaction.
pub(super) fn begin_in_schema(name: &str) -> String {
    format!("BEGIN; SET LOCAL search_path = {}", identifier(name))
}

fn set(name: &str, value: &str, until_commit: bool) -> String {
    format!("set_config({}, {}, {until_commit})", literal(name), literal(value))
}

/// Parses command-line options of the server: `-c name=value` and `--name=value`. A backslash escapes the next
/// character, and a dash in a name means an underscore. `None` if there is anything but settings.
pub(super) fn parse_options(options: &str) -> Option<Vec<(String, String)>> {
    let mut settings = Vec::new();
    let mut words = split_options(options).into_iter();
    while let Some(word) = words.next() {
        let setting = match (word.as_str(), word.strip_prefix("--"), word.strip_prefix("-c")) {
            ("-c", _, _) => words.next()?,
            (_, Some(setting), _) | (_, None, Some(setting)) => setting.to_owned(),
            _ => return None,
        };
        let (name, value) = setting.split_once('=').filter(|(name, _)| !name.is_empty())?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Some(settings)
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
            assert_eq!(parse_options(refused), None, "{refused}");
        }
    }

    #[test]
    fn settings_are_literals_and_the_schema_is_last() {
        let text = "-c default_transaction_read_only=on -c search_path=theirs -c x.y=it's\\\\";
        let config = PostgresConfig { settings: parse_options(text).unwrap(), ..PostgresConfig::default() };
        let settings = Settings::new(&config).in_schema(r#"my "odd\ schema"#);
        assert_eq!(
            settings.for_transaction(""),
            "BEGIN; SET LOCAL transaction_read_only = E'on'; SELECT set_config(E'plan_cache_mode', \
             E'force_custom_plan', true), set_config(E'gin_fuzzy_search_limit', E'0', true), set_config(E'search_path', E'theirs', true), set_config(E'x.y', E'it''s\\\\', \
             true), set_config(E'search_path', E'\"my \"\"odd\\\\ schema\", pg_temp', true)"
        );
        assert!(settings.for_session().contains("set_config(E'default_transaction_read_only', E'on', false)"));
    }
}
