//! Tests of the ClickHouse backend on a server.

pub mod adoption;
pub mod exchange;
pub mod faults;
pub mod late;
pub mod profiles;
pub mod stores;

use std::future::Future;

use libtest_mimic::Trial;

use crate::support::backends::Backend;
use crate::support::harness::server_trial;

fn trial<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    server_trial(Backend::CLICKHOUSE, name, test)
}
