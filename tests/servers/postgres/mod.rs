//! Tests of the PostgreSQL backend on a server.

pub mod activity;
pub mod columns;
pub mod exchange;
pub mod failover;
pub mod faults;
pub mod historical;
pub mod lookout;
pub mod rights;
pub mod schema;
pub mod sessions;
pub mod stores;
pub mod strangers;
pub mod traps;

use std::future::Future;

use libtest_mimic::Trial;

use crate::support::backends::Backend;
use crate::support::harness::server_trial;

fn trial<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    server_trial(Backend::POSTGRES, name, test)
}
