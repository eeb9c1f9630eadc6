//! Servers that a test may kill.

use std::path::PathBuf;
use std::process::Command;

use broadside::{CLICKHOUSE_URL_VARIABLE, POSTGRES_URL_VARIABLE};

/// A server of a test's own, run by a script of `tests/servers` and gone when it is dropped.
#[derive(Debug)]
pub struct Server {
    script: PathBuf,
    directory: PathBuf,
    /// The `export …` lines that the script printed.
    exports: String,
    variable: &'static str,
}

impl Server {
    /// PostgreSQL with options on its command line.
    pub fn postgres(name: &str, options: &str) -> Self {
        Self::start("postgres.sh", POSTGRES_URL_VARIABLE, name, ("EXTRA_OPTIONS", options))
    }

    /// ClickHouse with a password for its user; none if it is empty.
    pub fn clickhouse(name: &str, password: &str) -> Self {
        Self::start("clickhouse.sh", CLICKHOUSE_URL_VARIABLE, name, ("PASSWORD", password))
    }

    fn start(script: &str, variable: &'static str, name: &str, environment: (&str, &str)) -> Self {
        let mut server = Self {
            script: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(script),
            directory: PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
                .join("servers")
                .join(format!("{script}-{name}-{}", std::process::id())),
            exports: String::new(),
            variable,
        };
        server.exports = server.run("start", Some(environment));
        server
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        self.exported(self.variable)
    }

    /// What the script says of the server under this name.
    pub fn exported(&self, name: &str) -> &str {
        let prefix = format!("export {name}='");
        let value = self.exports.lines().find_map(|line| line.strip_prefix(&prefix)?.strip_suffix('\''));
        value.expect("the script exports it")
    }

    /// Gives the user of a ClickHouse server a profile: lines `name=value`.
    pub fn set_profile(&self, settings: &str) {
        std::fs::write(self.directory.join("profile"), settings).expect("the profile can be written");
    }

    /// Stops it as a crash would.
    pub fn kill(&self) {
        self.run("kill", None);
    }

    /// Starts it again, with what the crash has left.
    pub fn resume(&self) {
        self.run("resume", None);
    }

    fn run(&self, command: &str, environment: Option<(&str, &str)>) -> String {
        let mut command_line = Command::new(&self.script);
        command_line.arg(command).arg(&self.directory).envs(environment);
        let output = tokio::task::block_in_place(|| command_line.output()).expect("the script can be run");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("the script prints text")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run("stop", None);
    }
}

/// The address of a server with further parameters.
pub fn with(address: &str, parameters: &str) -> String {
    if parameters.is_empty() {
        return address.to_owned();
    }
    format!("{address}{}{parameters}", if address.contains('?') { '&' } else { '?' })
}
