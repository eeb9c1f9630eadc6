//! The embedded scenarios.

use broadside::DatabaseConfig;
use broadside::measure::LatencyHistogram;
use broadside::scenario::Scenario;

use super::summary::{Row, Tally};
use crate::cli::scratch::run_scenario;
use crate::cli::{Failure, messages, progress};

/// The scenario files of `fixtures/`, by name.
const FIXTURES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/fixtures.rs"));

/// Executes the scenarios and compares their responses with the expected ones.
pub async fn check(config: &DatabaseConfig) -> Result<Row, Failure> {
    let bar = progress::bar("running scenarios", FIXTURES.len() as u64);
    let mut tally = Tally::default();
    for (name, text) in FIXTURES {
        run_scenario(config, &Scenario::parse(text)?, async |step, response| {
            if step.expect.is_some() && !tally.count(step.accepts(response)) {
                messages::difference(name, step, response).await;
            }
            Ok(())
        })
        .await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(Row { name: format!("{} scenarios", FIXTURES.len()), tally, rows: None, latencies: LatencyHistogram::default() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_fixture_is_embedded_unchanged() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let paths = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let files: BTreeMap<_, _> = paths
            .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
            .collect();
        let embedded = FIXTURES.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
        assert_eq!(files, embedded);
        assert!(!files.is_empty());
    }
}
