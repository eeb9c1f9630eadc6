//! The contract of every backend: scenarios, random workloads against the naive model, concurrent calls, handles, and
//! load tests.

mod concurrency;
mod exchange;
mod fixtures;
mod handles;
mod load;
mod pages;
mod properties;
#[path = "../support/mod.rs"]
mod support;

use libtest_mimic::Arguments;

fn main() {
    let mut trials = fixtures::trials();
    trials.extend(properties::trials());
    trials.extend(pages::trials());
    trials.extend(concurrency::trials());
    trials.extend(handles::trials());
    trials.extend(load::trials());
    trials.extend(exchange::trials());
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
