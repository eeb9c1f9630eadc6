//! Tests of the library's API.

mod bad_input;
mod compare;
mod load_config;
mod load_results;
mod sql;
