//! `broadside clean`: the stores that it lists, removes and keeps.

use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use crate::support::backends::Backend;
use crate::support::harness::server_trial;
use crate::support::leftovers::{leave_behind, stores_of};
use broadside::{DatabaseConfig, SystemClock};
use libtest_mimic::Trial;
use tokio::task::block_in_place;

pub fn trials() -> Vec<Trial> {
    let trial = |backend| server_trial(backend, "old-stores-are-removed", move || old_stores_are_removed(backend));
    vec![trial(Backend::POSTGRES), trial(Backend::CLICKHOUSE)]
}

/// Runs `broadside clean` without a terminal, for an age that only stores of this test have.
fn clean(address: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broadside"));
    command.args(["clean", "--backend", address, "--older-than", "1000d"]).args(arguments).env_remove("BROADSIDE_LOG");
    block_in_place(|| command.stdin(Stdio::null()).output()).unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

async fn old_stores_are_removed(backend: Backend) {
    let address = backend.address();
    let config: DatabaseConfig = address.parse().unwrap();
    let old = DatabaseConfig::scratch_name();
    leave_behind(&address, &old).await;
    let young = DatabaseConfig::scratch_name();
    let store = config.create_scratch_named(&young, Arc::new(SystemClock)).await.unwrap();

    let listed = clean(&address, &[]);
    assert_eq!(listed.status.code(), Some(2), "{listed:?}");
    assert!(String::from_utf8_lossy(&listed.stderr).contains("--yes"), "{listed:?}");
    let line = |name: &str| stdout(&listed).lines().find(|line| line.contains(name)).map(str::to_owned).unwrap();
    assert!(line(&old).contains("2020-01-01T00:00:00Z") && !line(&old).contains("too young"), "{}", line(&old));
    assert!(line(&young).contains("too young"), "{}", line(&young));
    let left = async || {
        let stores = stores_of(&address, std::process::id()).await;
        [&old, &young].map(|name| stores.contains(name))
    };
    assert_eq!(left().await, [true, true]);

    let removed = clean(&address, &["--yes"]);
    assert_eq!(removed.status.code(), Some(0), "{removed:?}");
    assert!(stdout(&removed).contains(&format!("removed {old}")), "{removed:?}");
    assert_eq!(left().await, [false, true]);

    let nothing = clean(&address, &["--yes"]);
    assert_eq!(nothing.status.code(), Some(0), "{nothing:?}");
    assert!(stdout(&nothing).contains("is older than 1000d"), "{nothing:?}");
    store.remove().await.unwrap();
}
