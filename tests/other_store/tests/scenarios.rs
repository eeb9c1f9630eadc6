//! Executes the scenarios of `fixtures/` on the store.

use std::path::Path;
use std::sync::Arc;

use broadside::ManualClock;
use broadside::scenario::Scenario;
use broadside_other_store::HashMapStore;

#[tokio::test]
async fn every_response_is_the_expected_one() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    let (mut scenarios, mut lines, mut differences) = (0, 0, Vec::new());
    for entry in fixtures.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        scenarios += 1;
        let clock = Arc::new(ManualClock::default());
        let store = HashMapStore::new(clock.clone());
        for step in Scenario::parse(&std::fs::read(&path).unwrap()).unwrap().steps {
            lines += 1;
            let response = step.call.execute(&store, &clock).await;
            assert!(step.expect.is_some(), "{}:{} has no expected response", path.display(), step.line);
            if let Some(difference) = step.difference(&response) {
                differences.push(format!("{}:{}: {difference}", path.display(), step.line));
            }
        }
    }
    assert!(scenarios >= 45 && lines > 1700, "{scenarios} scenarios of {lines} lines");
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}
