//! Tests of what only one kind of server has: its faults, sessions, stores and rights, load tests compared with the
//! server's own times, and commands that are stopped.
//!
//! The name of a test begins with its group and backend: `[faults] postgres::a-deadlock-is-retried`.

mod browser;
mod clean;
mod clickhouse;
mod events;
mod kills;
mod load;
mod postgres;
mod signals;
#[path = "../support/mod.rs"]
mod support;

use libtest_mimic::{Arguments, Trial};

/// Most tests wait for a server most of the time.
const THREADS: usize = 4;

fn main() {
    // The first group measures times. Later ones use the processor more.
    let groups = [
        ("load", load::trials()),
        ("faults", postgres::faults::trials()),
        ("faults", postgres::failover::trials()),
        ("historical", postgres::historical::trials()),
        ("schema", postgres::schema::trials()),
        ("sessions", postgres::sessions::trials()),
        ("stores", postgres::stores::trials()),
        ("activity", postgres::activity::trials()),
        ("columns", postgres::columns::trials()),
        ("rights", postgres::rights::trials()),
        ("strangers", postgres::strangers::trials()),
        ("exchange", postgres::exchange::trials()),
        ("lookout", postgres::lookout::trials()),
        ("traps", postgres::traps::trials()),
        ("adoption", clickhouse::adoption::trials()),
        ("exchange", clickhouse::exchange::trials()),
        ("faults", clickhouse::faults::trials()),
        ("late", clickhouse::late::trials()),
        ("profiles", clickhouse::profiles::trials()),
        ("stores", clickhouse::stores::trials()),
        ("events", events::trials()),
        ("clean", clean::trials()),
        ("kills", kills::trials()),
        ("signals", signals::trials()),
        ("browser", browser::trials()),
    ];
    let named =
        |(group, trials): (&'static str, Vec<Trial>)| trials.into_iter().map(move |trial| trial.with_kind(group));
    let trials = groups.into_iter().flat_map(named).collect();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    libtest_mimic::run(&arguments, trials).exit();
}
