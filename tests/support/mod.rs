//! Shared code of the integration tests.
#![allow(dead_code, reason = "each test target uses its part")]

pub mod backends;
pub mod compare;
pub mod faulty;
pub mod generate;
pub mod harness;
pub mod jobs;
#[cfg(all(feature = "postgres", feature = "clickhouse"))]
pub mod leftovers;
pub mod model;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(all(feature = "cli", target_os = "linux"))]
pub mod process;
pub mod proxy;
#[cfg(feature = "cli")]
pub mod refusals;
pub mod server;
