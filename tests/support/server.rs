//! Servers that tests can kill.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use broadside::{CLICKHOUSE_URL_VARIABLE, POSTGRES_URL_VARIABLE};

/// A private server, which is controlled by a script of `tests/servers`. Dropping it stops the server and removes its
/// data.
#[derive(Debug)]
pub struct Server {
    script: PathBuf,
    directory: PathBuf,
    /// The environment variable that configures the server when it is started.
    environment: (&'static str, String),
    /// The `export …` lines of the script's output.
    exports: String,
    variable: &'static str,
}

impl Server {
    /// Starts PostgreSQL with command-line options.
    pub fn postgres(name: &str, options: &str) -> Self {
        Self::start("postgres.sh", POSTGRES_URL_VARIABLE, name, ("EXTRA_OPTIONS", options))
    }

    /// Starts ClickHouse with a password for its user; empty for no password.
    pub fn clickhouse(name: &str, password: &str) -> Self {
        Self::clickhouse_with(name, ("PASSWORD", password))
    }

    /// Starts ClickHouse with an environment variable of its script.
    pub fn clickhouse_with(name: &str, variable: (&'static str, &str)) -> Self {
        Self::start("clickhouse.sh", CLICKHOUSE_URL_VARIABLE, name, variable)
    }

    /// The server's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The log of a ClickHouse server.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).expect("the server has a log")
    }

    fn start(script: &str, variable: &'static str, name: &str, environment: (&'static str, &str)) -> Self {
        let mut server = Self {
            script: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(script),
            directory: PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
                .join("servers")
                .join(format!("{script}-{name}-{}", std::process::id())),
            environment: (environment.0, environment.1.to_owned()),
            exports: String::new(),
            variable,
        };
        server.exports = server.run("start");
        server
    }

    /// The address of the server.
    pub fn address(&self) -> &str {
        self.exported(self.variable)
    }

    /// The value of a variable that the script exports.
    pub fn exported(&self, name: &str) -> &str {
        let prefix = format!("export {name}='");
        let value = self.exports.lines().find_map(|line| line.strip_prefix(&prefix)?.strip_suffix('\''));
        value.expect("the script exports it")
    }

    /// Sets the profile of a ClickHouse server's user, as lines of `name=value`.
    pub fn set_profile(&self, settings: &str) {
        std::fs::write(self.directory.join("profile"), settings).expect("the profile can be written");
    }

    /// Kills the server.
    pub fn kill(&self) {
        self.run("kill");
    }

    /// Starts the server again with the data that the kill has left.
    pub fn resume(&self) {
        self.run("resume");
    }

    /// Executes the script. Returns its standard output.
    fn run(&self, command: &str) -> String {
        let output = self.output(command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("the script prints text")
    }

    fn output(&self, command: &str) -> Output {
        let mut command_line = Command::new(&self.script);
        let (variable, value) = &self.environment;
        command_line.arg(command).arg(&self.directory).env(variable, value);
        tokio::task::block_in_place(|| command_line.output()).expect("the script can be run")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = self.output("stop");
        // A second panic would abort the tests, and the other servers would remain running.
        assert!(stopped.status.success() || std::thread::panicking(), "{}", String::from_utf8_lossy(&stopped.stderr));
    }
}

/// The address of a server with further parameters.
pub fn with(address: &str, parameters: &str) -> String {
    if parameters.is_empty() {
        return address.to_owned();
    }
    format!("{address}{}{parameters}", if address.contains('?') { '&' } else { '?' })
}
