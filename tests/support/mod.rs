//! What the integration tests share.
#![allow(dead_code, reason = "each test target uses its part")]

pub mod backends;
pub mod compare;
pub mod generate;
pub mod harness;
pub mod jobs;
pub mod model;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod proxy;
pub mod server;
