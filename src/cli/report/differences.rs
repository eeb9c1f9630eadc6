//! Differences between the configurations of runs.

use std::collections::{BTreeMap, BTreeSet};

use broadside::load::RunRecord;
use maud::{Markup, html};
use serde_json::Value;

use crate::cli::page;

/// The settings that differ between the configurations, options, servers and machines of the runs, by their path of
/// keys (`ingestionConfig.batchSize`), with the value in each run.
fn differences(runs: &[RunRecord]) -> Vec<(Markup, Vec<Option<String>>)> {
    let runs: Vec<BTreeMap<String, String>> = runs.iter().map(settings).collect();
    let names: BTreeSet<&String> = runs.iter().flat_map(BTreeMap::keys).collect();
    names
        .into_iter()
        .map(|name| (html! { code { (name) } }, runs.iter().map(|run| run.get(name).cloned()).collect()))
        .filter(|(_, values): &(_, Vec<_>)| values.windows(2).any(|pair| pair[0] != pair[1]))
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
            (page::table_by_run("Setting", names, &differences))
        }
    }
}
