//! Shared code of the integration tests.
#![allow(dead_code, reason = "each test target uses its part")]

pub mod backends;
pub mod compare;
pub mod faulty;
pub mod generate;
pub mod harness;
pub mod jobs;
pub mod leftovers;
pub mod model;
pub mod postgres;
#[cfg(target_os = "linux")]
pub mod process;
pub mod proxy;
pub mod refusals;
pub mod run;
pub mod server;
