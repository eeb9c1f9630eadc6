//! The command as a process that receives signals.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// The signals that end a command.
pub const SIGNALS: [&str; 3] = ["INT", "TERM", "HUP"];
/// The bits of [`SIGNALS`] in the masks of `/proc`.
const SIGNAL_BITS: u64 = 1 << 1 | 1 << 14 | 1;
const POLL: Duration = Duration::from_millis(2);

/// A `broadside` process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// Standard input, which is closed by dropping this.
    pub stdin: Option<ChildStdin>,
    stdout: Option<BufReader<ChildStdout>>,
}

/// The end of a process.
#[derive(Debug)]
pub struct End {
    /// The exit code; `None` if the process was killed by a signal.
    pub code: Option<i32>,
    /// The whole standard error.
    pub stderr: String,
}

impl Process {
    /// Starts the command. Returns when it handles signals.
    pub fn start(arguments: &[&str]) -> Self {
        // The parent of the tests may ignore signals, as nohup does, which processes inherit.
        let mut child = Command::new("env")
            .arg("--default-signal=INT,TERM,HUP")
            .arg(env!("CARGO_BIN_EXE_broadside"))
            .args(arguments)
            .env_remove("BROADSIDE_LOG")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().map(BufReader::new);
        let mut process = Self { child, stdin, stdout };
        process.until(|process| process.signals("SigCgt") & SIGNAL_BITS == SIGNAL_BITS);
        process
    }

    /// The id of the process, which is part of the names of its stores.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal of [`SIGNALS`].
    pub fn signal(&self, name: &str) {
        Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
    }

    /// Writes to standard input.
    pub fn write(&mut self, text: &str) {
        self.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// Reads the next line of standard output.
    pub fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until a thread of the process is blocked by writing to a full pipe.
    pub fn until_output_is_full(&mut self) {
        let wait_of = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("wchan"));
        self.until(|process| {
            let threads = fs::read_dir(process.path("task")).unwrap();
            threads.flatten().filter_map(|thread| wait_of(thread).ok()).any(|wchan| wchan.contains("pipe_write"))
        });
    }

    /// Waits for the end of the process, and reads the rest of its output if `reads_output`.
    pub fn end(mut self, reads_output: bool) -> End {
        let mut stdout = self.stdout.take();
        if reads_output {
            stdout.as_mut().unwrap().read_to_end(&mut Vec::new()).unwrap();
        }
        let mut stderr = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        End { code: self.child.wait().unwrap().code(), stderr }
    }

    fn until(&mut self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            assert!(!self.has_ended(), "the process has ended");
            sleep(POLL);
        }
    }

    /// A mask of signals from the status of the process.
    fn signals(&self, mask: &str) -> u64 {
        let status = fs::read_to_string(self.path("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(mask)?.strip_prefix(':'));
        line.map_or(0, |mask| u64::from_str_radix(mask.trim(), 16).unwrap())
    }

    fn path(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.id())
    }
}
