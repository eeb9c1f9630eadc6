//! Parses the files of a configuration and merges them.

use super::node::Node;
use super::problem::{ConfigError, Problem, SourceLocation};
use super::read;
use super::section::{Diagnostics, Section};
use super::types::LoadConfig;
use crate::error::BackendKind;

/// A valid configuration, with warnings.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ParsedConfig {
    /// The configuration.
    pub config: LoadConfig,
    /// Keys that have no effect.
    pub warnings: Vec<Problem>,
}

impl LoadConfig {
    /// Parses YAML files, given as pairs of name and text. Later files override earlier ones key by key.
    ///
    /// Keys are case-insensitive, numbers may be quoted, and durations have Go's format.
    ///
    /// ```
    /// use broadside::load::LoadConfig;
    ///
    /// let base = "testDuration: 1m\ndatabaseConfig: {inMemory: true}\ningestionConfig: {batchSize: 100}\n\
    ///             queueConfig: [{name: q, proportion: 1, jobSetConfig: [{name: s, proportion: 1}]}]";
    /// let parsed = LoadConfig::parse([("base.yaml", base), ("longer.yaml", "TestDuration: 1h")])?;
    /// assert_eq!(parsed.config.test_duration.as_secs(), 3600);
    ///
    /// let error = LoadConfig::parse([("base.yaml", base), ("bad.yaml", "testDuration: soon")]).unwrap_err();
    /// assert!(error.to_string().starts_with("bad.yaml:1: testDuration: \"soon\" must be a duration"));
    /// # Ok::<(), broadside::load::ConfigError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// All problems, each with file, line, key and value. Values of the section `databaseConfig` are not included.
    pub fn parse<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<ParsedConfig, ConfigError> {
        parse(files, None)
    }

    /// Like [`parse`](Self::parse), for a store that the caller opens. The section `databaseConfig` may be absent.
    ///
    /// # Errors
    ///
    /// As for [`parse`](Self::parse), except for problems of the store's address.
    pub fn parse_for<'a>(
        backend: BackendKind,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<ParsedConfig, ConfigError> {
        parse(files, Some(backend))
    }
}

fn parse<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
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
    let Some(node) = merged else {
        let no_file = SourceLocation { file: "<none>".into(), line: 1 };
        return Err(ConfigError { problems: vec![Problem::new(&no_file, "", "", "no configuration file is given")] });
    };
    let config = read::root(&Section::root(&node, &diagnostics), external);
    if !diagnostics.problems.borrow().is_empty() {
        return Err(error(diagnostics));
    }
    Ok(ParsedConfig { config, warnings: diagnostics.warnings.into_inner() })
}

fn error(diagnostics: Diagnostics) -> ConfigError {
    let mut problems = diagnostics.problems.into_inner();
    problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    let mut seen: Vec<Problem> = Vec::new();
    problems.retain(|problem| {
        let new = !seen.contains(problem);
        if new {
            seen.push(problem.clone());
        }
        new
    });
    ConfigError { problems }
}
