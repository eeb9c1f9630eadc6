//! What the integration tests share.
#![allow(dead_code, reason = "each test target uses its part")]

pub mod backends;
pub mod compare;
pub mod generate;
pub mod harness;
pub mod model;
pub mod proxy;
