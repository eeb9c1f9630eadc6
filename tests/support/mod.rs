//! What the integration tests share.
#![allow(dead_code, unused_imports, reason = "each test target uses its part")]

pub mod model;
