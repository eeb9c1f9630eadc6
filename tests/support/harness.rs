//! Tests on each backend, with names such as `memory::terminal-guard`.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use libtest_mimic::{Failed, Trial};

use super::backends::{Backend, TestStore, is_ci, runtime};

/// The timeout of a test, ten times the duration of the longest test on an idle machine.
const STUCK: Duration = Duration::from_secs(15 * 60);

/// The result of a test.
pub type Verdict = Result<(), String>;

/// A test on a backend.
///
/// Without the backend it is ignored, or fails in CI. The store is removed even if the test fails or panics.
pub fn trial<T, F>(backend: Backend, name: impl Display, test: T) -> Trial
where
    T: FnOnce(TestStoreRef) -> F + Send + 'static,
    F: Future<Output = Verdict> + Send + 'static,
{
    let missing = backend.missing_variable();
    let run = move || {
        if let Some(variable) = missing {
            return Err(Failed::from(format!("{variable} is not set, so there is no {} to test", backend.name)));
        }
        runtime().block_on(within_limit(on_store(backend, test)))?.map_err(Failed::from)
    };
    Trial::test(format!("{}::{name}", backend.name), run).with_ignored_flag(missing.is_some() && !is_ci())
}

/// A test that creates its own stores on a kind of server, and panics if it fails.
pub fn server_trial<F: Future<Output = ()>>(
    backend: Backend,
    name: impl Display,
    test: impl FnOnce() -> F + Send + 'static,
) -> Trial {
    let missing = backend.missing_variable();
    let run = move || match missing {
        Some(variable) => Err(Failed::from(format!("{variable} is not set, so there is no {} to test", backend.name))),
        None => runtime().block_on(within_limit(test())),
    };
    Trial::test(format!("{}::{name}", backend.name), run).with_ignored_flag(missing.is_some() && !is_ci())
}

/// Makes a stuck test fail with its name, instead of blocking all tests.
async fn within_limit<T>(test: impl Future<Output = T>) -> Result<T, Failed> {
    tokio::time::timeout(STUCK, test).await.map_err(|_| Failed::from(format!("the test did not end within {STUCK:?}")))
}

/// The store of a test, which the harness creates and removes.
pub type TestStoreRef = std::sync::Arc<TestStore>;

async fn on_store<T, F>(backend: Backend, test: T) -> Verdict
where
    T: FnOnce(TestStoreRef) -> F,
    F: Future<Output = Verdict> + Send + 'static,
{
    let store = std::sync::Arc::new(backend.open().await.map_err(|error| describe(&error))?);
    let verdict = tokio::spawn(test(store.clone())).await;
    let removed = match std::sync::Arc::into_inner(store) {
        Some(store) => store.remove().await.map_err(|error| describe(&error)),
        None => Err("the test has kept its store".to_owned()),
    };
    verdict.map_err(|panic| format!("panicked: {panic}"))??;
    removed
}

/// An error with all its sources.
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
