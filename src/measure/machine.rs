//! The machine of a measurement.

use std::thread;

use serde::{Deserialize, Serialize};

/// The properties of a machine, as far as the operating system provides them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
            memory_bytes: bytes_of("/proc/meminfo", "MemTotal"),
        }
    }
}

/// The first value of a key in a file with `key: value` lines. The files exist only on Linux.
fn value_of(path: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
}

/// A value in kB of such a file, in bytes.
pub(crate) fn bytes_of(path: &str, key: &str) -> Option<u64> {
    kibibytes(&value_of(path, key)?)
}

fn kibibytes(text: &str) -> Option<u64> {
    let number = text.strip_suffix("kB")?.trim().parse::<u64>().ok()?;
    number.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_files_of_linux_are_kibibytes() {
        assert_eq!(kibibytes("16309748 kB"), Some(16_309_748 * 1024));
        assert_eq!(kibibytes("18446744073709551615 kB"), None);
        assert_eq!((kibibytes("16309748"), kibibytes("many kB")), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_memory_of_this_process_is_part_of_that_of_the_machine() {
        let (process, machine) = (bytes_of("/proc/self/status", "VmRSS").unwrap(), Machine::this());
        assert!((1 << 20..machine.memory_bytes.unwrap()).contains(&process), "{process} of {machine:?}");
        assert_eq!((bytes_of("/proc/self/status", "No such key"), bytes_of("/no/such/file", "VmRSS")), (None, None));
    }
}
