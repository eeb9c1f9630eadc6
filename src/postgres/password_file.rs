//! libpq's password file, `~/.pgpass`: each line has a server, a database, a user and the password.

use std::borrow::Cow;
use std::fs::{self, Metadata};
use std::path::Path;

use tokio_postgres::Config;

/// The content of the file; `None` if it does not exist or libpq would ignore it.
pub(super) fn read(path: &Path) -> Option<Vec<u8>> {
    let metadata = fs::metadata(path).ok()?;
    if !metadata.is_file() {
        tracing::warn!("the password file is ignored: it is not a plain file");
        return None;
    }
    if others_have_access(&metadata) {
        tracing::warn!(
            "the password file is ignored: group or others have access to it; its mode must be 0600 or less"
        );
        return None;
    }
    fs::read(path).map_err(|error| tracing::warn!(%error, "the password file cannot be read")).ok()
}

#[cfg(unix)]
fn others_have_access(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;

    metadata.permissions().mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn others_have_access(_metadata: &Metadata) -> bool {
    false
}

/// The password of the first line that matches a host with the user and the database of a configuration.
pub(super) fn find(file: &[u8], host: &str, port: u16, server: &Config) -> Option<Vec<u8>> {
    let host = match host {
        // The default socket directories.
        "/var/run/postgresql" | "/run/postgresql" | "/tmp" => "localhost",
        host => host,
    };
    // The driver's defaults are the user of the process and the database with the name of the user.
    let user = server.get_user().map_or_else(|| whoami::username().unwrap_or_default().into(), Cow::from);
    let database = server.get_dbname().unwrap_or(&user);
    let login = [host, &port.to_string(), database, &user];
    let lines = file.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.starts_with(b"#")).find_map(|line| password(line, login))
}

/// The password of a line, whose first four fields must be those of the login or `*`.
fn password(line: &[u8], login: [&str; 4]) -> Option<Vec<u8>> {
    let mut rest = line;
    for wanted in login {
        let (field, tail) = rest.split_at(end_of_field(rest)?);
        if field != b"*" && unescaped(field) != wanted.as_bytes() {
            return None;
        }
        rest = &tail[1..];
    }
    Some(unescaped(rest))
}

/// The position of the first colon without a backslash.
fn end_of_field(text: &[u8]) -> Option<usize> {
    let mut is_escaped = false;
    text.iter().position(|&byte| {
        let is_end = byte == b':' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

/// The text without its backslashes, each of which escapes the next byte.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.iter().copied();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte });
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: [&str; 4] = ["h", "5432", "d", "u"];

    fn found_by([host, port, database, user]: [&str; 4], file: &str) -> Option<String> {
        let mut server = Config::new();
        server.user(user).dbname(database);
        let password = find(file.as_bytes(), host, port.parse().unwrap(), &server);
        password.map(|password| String::from_utf8(password).unwrap())
    }

    fn found(file: &str) -> Option<String> {
        found_by(LOGIN, file)
    }

    #[test]
    fn the_first_matching_line_has_the_password() {
        assert_eq!(found("other:5432:d:u:no\nh:5432:d:u:first\r\n*:*:*:*:second\n"), Some("first".to_owned()));
        assert_eq!(found("h:5432:d:other:no\n*:*:*:u:any"), Some("any".to_owned()));
        assert_eq!(found("# h:5432:d:u:no\n#h:5432:d:u:no\nh:5432:d:u"), None);
        assert_eq!(found(""), None);
        assert_eq!(found("h:5432:d:u:"), Some(String::new()));
        assert_eq!(found("h*:5432:d:u:no"), None);
        assert_eq!(found(r"\*:5432:d:u:no"), None);
    }

    #[test]
    fn a_login_has_the_defaults_of_libpq() {
        assert_eq!(found_by(["/tmp", "5432", "d", "u"], "localhost:5432:d:u:socket"), Some("socket".to_owned()));
        let mut server = Config::new();
        server.user("u");
        assert_eq!(find(b"h:1:other:u:no\nh:1:u:u:yes", "h", 1, &server), Some(b"yes".to_vec()));
    }

    #[test]
    fn a_backslash_escapes() {
        let login = ["a:b", "5432", "d", r"c\d"];
        assert_eq!(found_by(login, r"a\:b:5432:d:c\\d:p\:q\\r:s"), Some(r"p:q\r:s".to_owned()));
        assert_eq!(found(r"h:5432:d:u:end\"), Some(r"end\".to_owned()));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_can_read_is_ignored() {
        use std::os::unix::fs::PermissionsExt;

        let path = std::env::temp_dir().join(format!("broadside-pgpass-{}", std::process::id()));
        fs::write(&path, "*:*:*:*:secret").unwrap();
        for (mode, readable) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read(&path).is_some(), readable, "{mode:o}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&path), None);
        assert_eq!(read(&std::env::temp_dir()), None);
    }
}
