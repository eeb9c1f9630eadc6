//! SIGINT, SIGTERM and SIGHUP at any moment: every command exits with 130 and leaves nothing on its server.
//!
//! A process gets a signal after its handlers are installed; it has created nothing before. A proxy stops the command
//! at the critical moments; other moments are random, from a fixed seed.

use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::Trial;
use tokio::task::block_in_place;
use tokio::time::sleep;

use crate::support::backends::Backend;
use crate::support::harness::server_trial;
use crate::support::leftovers::{remove, stores_of};
use crate::support::process::{End, Process, SIGNALS};
use crate::support::proxy::{Mode, Proxy};

const SERVERS: [Backend; 2] = [Backend::POSTGRES, Backend::CLICKHOUSE];
const CALL: &str = r#"{"op":"getJobs"}"#;
const SCENARIO: &str = r#"{"op":"initialiseSchema"}"#;
/// The number of random moments for each command and signal, and the variable that overrides it.
const MOMENTS: u64 = 2;
const MOMENTS_VARIABLE: &str = "BROADSIDE_SIGNALS";
/// The upper limit of the random delays, which every command exceeds.
const LONGEST_MICROS: u64 = 1_000_000;
/// The time for a process to handle a signal. A test also passes if it takes longer.
const SEEN: Duration = Duration::from_millis(50);
/// The time between repeated signals.
const AGAIN: Duration = Duration::from_millis(100);
/// A number of jobs so large that their generation does not end during a test.
const MANY_JOBS: &str = "100000000";

pub fn trials() -> Vec<Trial> {
    let in_memory = [
        server_trial(Backend::MEMORY, "random-moments", random_moments_in_memory),
        server_trial(Backend::MEMORY, "waiting-for-input", || waiting_for_input(Backend::MEMORY)),
        server_trial(Backend::MEMORY, "full-output", || full_output(Backend::MEMORY)),
    ];
    in_memory.into_iter().chain(SERVERS.into_iter().flat_map(on_server)).collect()
}

fn on_server(backend: Backend) -> Vec<Trial> {
    vec![
        server_trial(backend, "random-moments", move || random_moments(backend)),
        server_trial(backend, "connecting", move || connecting(backend)),
        server_trial(backend, "waiting-for-input", move || waiting_for_input(backend)),
        server_trial(backend, "between-files", move || between_files(backend)),
        server_trial(backend, "creating", move || creating(backend)),
        server_trial(backend, "removing", move || removing(backend)),
        server_trial(backend, "insisting", move || insisting(backend)),
        server_trial(backend, "full-output", move || full_output(backend)),
    ]
}

/// Pseudo-random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

fn start(arguments: &[&str]) -> Process {
    block_in_place(|| Process::start(arguments))
}

/// Asserts that the process exits with 130 without a message, and leaves nothing on the server.
async fn assert_ends(process: Process, address: &str, reads_output: bool) {
    let id = process.id();
    let End { code, stderr } = block_in_place(|| process.end(reads_output));
    assert_eq!((code, stderr.as_str()), (Some(130), ""));
    assert_nothing_left(address, id).await;
}

async fn assert_nothing_left(address: &str, process: u32) {
    if address != "memory" {
        assert_eq!(stores_of(address, process).await, [""; 0]);
    }
}

/// Sends each signal at random moments of a command.
async fn interrupt_at_random(arguments: &[&str], address: &str) {
    let mut random = Random(arguments.len() as u64);
    let moments = std::env::var(MOMENTS_VARIABLE).map_or(MOMENTS, |text| text.parse().unwrap());
    for signal in SIGNALS {
        for _ in 0..moments {
            let process = start(arguments);
            sleep(Duration::from_micros(random.below(LONGEST_MICROS))).await;
            process.signal(signal);
            assert_ends(process, address, true).await;
        }
    }
}

async fn random_moments_in_memory() {
    for arguments in [
        vec!["stats", "--jobs", MANY_JOBS],
        vec!["sql", "--jobs", MANY_JOBS, "SELECT 1"],
        vec!["smoke", "--jobs", MANY_JOBS],
        vec!["compare", "--jobs", MANY_JOBS],
        vec!["explain", "--jobs", MANY_JOBS, CALL],
    ] {
        interrupt_at_random(&arguments, "memory").await;
    }
}

async fn random_moments(backend: Backend) {
    let address = backend.address();
    let fixture = |name: &str| format!("{}/fixtures/{name}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let (limits, orders) = (fixture("limits"), fixture("order-jobs"));
    let mut replay = vec!["replay", "--backend", &address];
    // The command does not end by itself, because standard input, its last file, remains open.
    replay.extend([limits.as_str(), &orders, &limits, &orders, "-"]);
    interrupt_at_random(&replay, &address).await;
    interrupt_at_random(&["smoke", "--backend", &address, "--jobs", MANY_JOBS], &address).await;
    let compare = ["compare", "--backend", &address, "--jobs", MANY_JOBS];
    interrupt_at_random(&compare, &address).await;
    interrupt_at_random(&["explain", "--backend", &address, "--jobs", MANY_JOBS, CALL], &address).await;
}

/// The server accepts connections and does not respond.
async fn connecting(backend: Backend) {
    let proxy = Proxy::start(&backend.address()).await;
    proxy.set(Mode::Silent);
    for signal in SIGNALS {
        let process = start(&["replay", "--backend", proxy.address(), "-"]);
        sleep(SEEN).await;
        process.signal(signal);
        assert_ends(process, &backend.address(), true).await;
    }
}

async fn waiting_for_input(backend: Backend) {
    for signal in SIGNALS {
        let mut process = start(&["replay", "--backend", &backend.address(), "-"]);
        process.write(SCENARIO);
        sleep(SEEN).await;
        process.signal(signal);
        assert_ends(process, &backend.address(), true).await;
    }
}

async fn between_files(backend: Backend) {
    let path = file(&format!("{}-signals-between-files.jsonl", backend.name), SCENARIO);
    for signal in SIGNALS {
        let mut process = start(&["replay", "--backend", &backend.address(), &path, "-"]);
        assert_eq!(block_in_place(|| process.read_line()), "{\"ok\":null}\n");
        // The store of the first file is removed, and that of the second is not created yet.
        until(async || stores_of(&backend.address(), process.id()).await.is_empty()).await;
        process.signal(signal);
        assert_ends(process, &backend.address(), true).await;
    }
}

/// The server has created the store, but the command has not received the response.
async fn creating(backend: Backend) {
    let proxy = Proxy::start(&backend.address()).await;
    let path = file(&format!("{}-signals-creating.jsonl", backend.name), SCENARIO);
    for signal in SIGNALS {
        proxy.set(Mode::HoldAnswers("CREATE "));
        let process = start(&["replay", "--backend", proxy.address(), &path, "-"]);
        proxy.holds().await;
        process.signal(signal);
        sleep(SEEN).await;
        proxy.set(Mode::Open);
        assert_ends(process, &backend.address(), true).await;
    }
}

async fn removing(backend: Backend) {
    let proxy = Proxy::start(&backend.address()).await;
    let path = file(&format!("{}-signals-removing.jsonl", backend.name), SCENARIO);
    for signal in SIGNALS {
        proxy.set(Mode::HoldRequests("DROP "));
        let process = start(&["replay", "--backend", proxy.address(), &path, "-"]);
        proxy.holds().await;
        process.signal(signal);
        sleep(SEEN).await;
        proxy.set(Mode::Open);
        assert_ends(process, &backend.address(), true).await;
    }
}

/// The removal does not complete. Further signals end the command without it.
async fn insisting(backend: Backend) {
    let address = backend.address();
    let path = file(&format!("{}-signals-insisting.jsonl", backend.name), SCENARIO);
    for signal in SIGNALS {
        let proxy = Proxy::start(&address).await;
        proxy.set(Mode::HoldRequests("DROP "));
        let mut process = start(&["replay", "--backend", proxy.address(), &path]);
        proxy.holds().await;
        let left = stores_of(&address, process.id()).await;
        while !process.has_ended() {
            process.signal(signal);
            sleep(AGAIN).await;
        }
        let End { code, stderr } = block_in_place(|| process.end(true));
        assert_eq!((code, left.len()), (Some(130), 1), "{stderr}");
        assert!(stderr.contains("left behind") && stderr.contains(&left[0]), "{left:?}: {stderr}");
        remove(&address, &left[0]).await;
    }
}

/// The output of the command is not read, so writing to it blocks.
async fn full_output(backend: Backend) {
    let address = backend.address();
    let calls = format!("{SCENARIO}\n{}", "{\"op\":\"getJobs\"}\n".repeat(10_000));
    let path = file(&format!("{}-signals-full-output.jsonl", backend.name), &calls);
    let mut process = start(&["replay", "--backend", &address, &path]);
    block_in_place(|| process.until_output_is_full());
    process.signal("TERM");
    assert_ends(process, &address, false).await;
}

async fn until(condition: impl AsyncFn() -> bool) {
    while !condition().await {
        sleep(Duration::from_millis(5)).await;
    }
}

/// Writes a scenario file. Returns its path.
fn file(name: &str, text: &str) -> String {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
