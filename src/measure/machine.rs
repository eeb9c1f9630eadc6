//! The machine of a measurement.

use std::thread;

use serde::{Deserialize, Serialize};

/// The properties of a machine, as far as the operating system provides them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// The operating system and the architecture.
    pub system: String,
    /// The model name of the processor.
    pub processor: Option<String>,
    /// The number of cores available to the process.
    pub cores: Option<u64>,
    /// The size of the memory, in bytes.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// The machine of the current process.
    pub fn this() -> Self {
        Self {
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            processor: value_of("/proc/cpuinfo", "model name"),
            cores: thread::available_parallelism().ok().map(|cores| cores.get() as u64),
            memory_bytes: value_of("/proc/meminfo", "MemTotal").and_then(|text| kibibytes(&text)),
        }
    }
}

/// The first value of a key in a file with `key: value` lines. The files exist only on Linux.
fn value_of(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
}

fn kibibytes(text: &str) -> Option<u64> {
    let number = text.strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    number.checked_mul(1024)
}
