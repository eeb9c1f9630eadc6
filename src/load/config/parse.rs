//! Parses the files of a configuration and merges them.

use std::collections::HashSet;

use super::node::Node;
use super::problem::{ConfigError, Problem, SourceLocation};
use super::types::LoadConfig;
use super::value::{Diagnostics, Value};
use super::{check, database, environment};
use crate::error::BackendKind;

/// A valid configuration, with warnings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ParsedConfig {
    /// The configuration.
    pub config: LoadConfig,
    /// Keys and environment variables that have no effect, and loads that are not what they seem.
    pub warnings: Vec<Problem>,
}

impl LoadConfig {
    /// Parses YAML files, given as pairs of name and text. Later files override earlier ones key by key.
    ///
    /// Keys are case-insensitive, numbers may be quoted and have the forms of Go's YAML (`1_000`, `3.6e6`, `0x10`, and
    /// `010`, which is 8), and durations have Go's format.
    ///
    /// The environment overrides the files: `ARMADA_INGESTIONCONFIG_BATCHSIZE` is the key `ingestionConfig.batchSize`.
    /// `_` separates keys, except within those of `databaseConfig.postgres` and `databaseConfig.clickHouse`, which a
    /// variable overrides only if a file has that section. A variable sets a single value, and an empty one nothing.
    ///
    /// ```
    /// use broadside::load::LoadConfig;
    ///
    /// let base = "testDuration: 1m\ndatabaseConfig: {inMemory: true}\ningestionConfig: {batchSize: 100}\n\
    ///             queueConfig: [{name: q, proportion: 1, jobSetConfig: [{name: s, proportion: 1}]}]";
    /// let parsed = LoadConfig::parse([("base.yaml", base), ("longer.yaml", "TestDuration: 1h")], [])?;
    /// assert_eq!(parsed.config.test_duration.as_secs(), 3600);
    ///
    /// let variable = ("ARMADA_TESTDURATION".to_owned(), "2m".to_owned());
    /// assert_eq!(LoadConfig::parse([("base.yaml", base)], [variable])?.config.test_duration.as_secs(), 120);
    ///
    /// let error = LoadConfig::parse([("base.yaml", base), ("bad.yaml", "testDuration: soon")], []).unwrap_err();
    /// assert!(error.to_string().starts_with("bad.yaml:1: testDuration: \"soon\" must be a duration"));
    /// # Ok::<(), broadside::load::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// All problems, each with file and line, or variable, and with key and value. Values of the section
    /// `databaseConfig` are not included.
    pub fn parse<'a>(
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<ParsedConfig, ConfigError> {
        parse(files, environment, None)
    }

    /// Like [`parse`](Self::parse), for a store that the caller opens. The section `databaseConfig` may be absent.
    ///
    /// # Errors
    ///
    /// As for [`parse`](Self::parse), except for problems of the store's address.
    pub fn parse_for<'a>(
        backend: BackendKind,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<ParsedConfig, ConfigError> {
        parse(files, environment, Some(backend))
    }
}

fn parse<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
    environment: impl IntoIterator<Item = (String, String)>,
    external: Option<BackendKind>,
) -> Result<ParsedConfig, ConfigError> {
    let diagnostics = Diagnostics::default();
    let mut merged: Option<Node> = None;
    for (file, text) in files {
        match (Node::parse(file, text), &mut merged) {
            (Ok(node), Some(merged)) => merged.merge(node),
            (Ok(node), None) => merged = Some(node),
            (Err(problem), _) => diagnostics.problems.borrow_mut().push(problem),
        }
    }
    // The merged values are incomplete if a file cannot be parsed, so their problems are not reported.
    if !diagnostics.problems.borrow().is_empty() {
        return Err(error(diagnostics));
    }
    let Some(mut node) = merged else {
        let no_file = SourceLocation { file: "<none>".into(), line: 1 };
        return Err(ConfigError { problems: vec![Problem::new(&no_file, "", "", "no configuration file is given")] });
    };
    diagnostics.warnings.borrow_mut().extend(environment::apply(&mut node, environment));
    // In the record, the database has the toggles.
    let [database, toggles] = ["databaseConfig", "featureToggles"].map(|name| (name, node.remove(name)));
    let [database, toggles] = [&database, &toggles]
        .map(|(name, section)| Value::new((*name).to_owned(), section.as_ref(), &node.location, &diagnostics));
    let root = Value::new(String::new(), Some(&node), &node.location, &diagnostics);
    let database = database::read(&database, &toggles, external);
    let mut config = LoadConfig { database, ..root.read() };
    check::set_defaults(&mut config);
    check::check(&root, &config);
    if !diagnostics.problems.borrow().is_empty() {
        return Err(error(diagnostics));
    }
    Ok(ParsedConfig { config, warnings: diagnostics.warnings.into_inner() })
}

fn error(diagnostics: Diagnostics) -> ConfigError {
    let mut problems = diagnostics.problems.into_inner();
    problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    let mut seen = HashSet::new();
    problems.retain(|problem| seen.insert(problem.clone()));
    ConfigError { problems }
}
