//! Differences between the configurations of runs.

use std::collections::BTreeMap;

use broadside::load::RunRecord;
use maud::{Markup, html};
use serde_json::Value;

use crate::cli::page::{key, or_missing};

/// A setting whose values differ between the runs.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path of keys: `ingestionConfig.batchSize`.
    pub name: String,
    /// The value in each run, `None` if the setting is absent.
    pub values: Vec<Option<String>>,
}

/// The differences between the configurations, options, servers and machines of the runs, by name.
pub fn differences(runs: &[RunRecord]) -> Vec<Difference> {
    let runs: Vec<BTreeMap<String, String>> = runs.iter().map(settings).collect();
    let names: std::collections::BTreeSet<&String> = runs.iter().flat_map(BTreeMap::keys).collect();
    names
        .into_iter()
        .map(|name| Difference { name: name.clone(), values: runs.iter().map(|run| run.get(name).cloned()).collect() })
        .filter(|difference| difference.values.windows(2).any(|pair| pair[0] != pair[1]))
        .collect()
}

/// The settings of a run by their paths.
fn settings(run: &RunRecord) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    flatten("", &run.configuration, &mut settings);
    for (name, value) in &run.options {
        flatten(&format!("options.{name}"), value, &mut settings);
    }
    for (name, value) in &run.store.settings {
        settings.insert(format!("server.{name}"), value.clone());
    }
    flatten("machine", &serde_json::to_value(&run.machine).unwrap_or_default(), &mut settings);
    settings.insert("seed".to_owned(), run.seed.to_string());
    settings.insert("broadside".to_owned(), run.broadside.clone());
    settings
}

fn flatten(path: &str, value: &Value, settings: &mut BTreeMap<String, String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(keys) => keys.iter().for_each(|(key, value)| flatten(&below(key), value, settings)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(at, value)| flatten(&below(&at.to_string()), value, settings));
        }
        Value::Null => {}
        Value::String(text) => drop(settings.insert(path.to_owned(), text.clone())),
        other => drop(settings.insert(path.to_owned(), other.to_string())),
    }
}

/// The table of differences; empty for a single run.
pub fn section(runs: &[RunRecord], names: &[String]) -> Markup {
    if runs.len() < 2 {
        return Markup::default();
    }
    let differences = differences(runs);
    html! {
        h2 #differences { "Differences" }
        @if differences.is_empty() {
            p { "The runs have the same configuration, options, server settings and machine." }
        } @else {
            p.note {
                "The configuration keys, options, server settings and machine properties that differ between the runs. \
                 Each may explain differences in the measurements."
            }
            (table(&differences, names))
        }
    }
}

fn table(differences: &[Difference], names: &[String]) -> Markup {
    html! {
        div.wide {
            table.text {
                thead {
                    tr {
                        th { "Setting" }
                        @for (at, name) in names.iter().enumerate() { th { (key(at, name)) } }
                    }
                }
                tbody {
                    @for Difference { name, values } in differences {
                        tr {
                            td { code { (name) } }
                            @for value in values { td { (or_missing(value.as_ref())) } }
                        }
                    }
                }
            }
        }
    }
}
