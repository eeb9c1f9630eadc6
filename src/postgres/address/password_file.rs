//! libpq's password file, `~/.pgpass`: each line has a server, a database, a user and the password.

use std::fs::{self, Metadata};
use std::path::Path;

/// The lookup key of a line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Login<'a> {
    pub(super) host: &'a str,
    pub(super) port: &'a str,
    pub(super) database: &'a str,
    pub(super) user: &'a str,
}

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

/// The password of the first matching line.
pub(super) fn find(file: &[u8], login: Login<'_>) -> Option<Vec<u8>> {
    let lines = file.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.starts_with(b"#")).find_map(|line| password(line, login))
}

fn password(line: &[u8], login: Login<'_>) -> Option<Vec<u8>> {
    let mut rest = line;
    for wanted in [login.host, login.port, login.database, login.user] {
        let (field, tail) = field(rest)?;
        if field != Field::Any && field != Field::Text(wanted.into()) {
            return None;
        }
        rest = tail;
    }
    let mut bytes = rest.iter();
    let mut password = Vec::with_capacity(rest.len());
    while let Some(&byte) = bytes.next() {
        password.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    Some(password)
}

#[derive(Debug, PartialEq, Eq)]
enum Field {
    /// `*`: matches everything.
    Any,
    Text(Vec<u8>),
}

/// The field at the start of a line and the text after its colon; a backslash escapes the next character.
fn field(line: &[u8]) -> Option<(Field, &[u8])> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some((Field::Any, rest));
    }
    let mut text = Vec::new();
    let mut bytes = line.iter().enumerate();
    while let Some((at, &byte)) = bytes.next() {
        match byte {
            b':' => return Some((Field::Text(text), &line[at + 1..])),
            b'\\' => text.extend(bytes.next().map(|(_, &escaped)| escaped)),
            plain => text.push(plain),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: Login<'_> = Login { host: "h", port: "5432", database: "d", user: "u" };

    fn found(file: &str) -> Option<String> {
        find(file.as_bytes(), LOGIN).map(|password| String::from_utf8(password).unwrap())
    }

    #[test]
    fn the_first_matching_line_has_the_password() {
        assert_eq!(found("other:5432:d:u:no\nh:5432:d:u:first\r\n*:*:*:*:second\n"), Some("first".to_owned()));
        assert_eq!(found("h:5432:d:other:no\n*:*:*:u:any"), Some("any".to_owned()));
        assert_eq!(found("# h:5432:d:u:no\n#h:5432:d:u:no\nh:5432:d:u"), None);
        assert_eq!(found(""), None);
        assert_eq!(found("h:5432:d:u:"), Some(String::new()));
        assert_eq!(found("h*:5432:d:u:no"), None);
    }

    #[test]
    fn a_backslash_escapes() {
        let login = Login { host: "a:b", user: r"c\d", ..LOGIN };
        assert_eq!(find(br"a\:b:5432:d:c\\d:p\:q\\r:s", login), Some(br"p:q\r:s".to_vec()));
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
