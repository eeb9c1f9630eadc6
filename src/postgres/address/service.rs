//! libpq's service file, `~/.pg_service.conf`: each section has the keys of a service.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::{KEYS, Problem};
use crate::address::plain;

const PLACE: &str = "the service file";

/// The keys of a service in the first file that has it.
pub(super) fn read(
    name: &str,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<BTreeMap<&'static str, String>, Problem> {
    let of_user = variable("PGSERVICEFILE").map(PathBuf::from);
    let of_home = || variable("HOME").map(|home| Path::new(&home).join(".pg_service.conf"));
    let of_system = variable("PGSYSCONFDIR").map(|directory| Path::new(&directory).join("pg_service.conf"));
    for file in of_user.or_else(of_home).into_iter().chain(of_system) {
        if let Some(keys) = fs::read_to_string(file).ok().map(|text| find(&text, name)).transpose()?.flatten() {
            return Ok(keys);
        }
    }
    Err(Problem::new("no service file defines the service"))
}

/// The keys of the first section with this name.
fn find(text: &str, name: &str) -> Result<Option<BTreeMap<&'static str, String>>, Problem> {
    let mut lines = text.lines().zip(1..).map(|(line, number)| (line.trim(), number));
    if !lines.any(|(line, _)| line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) == Some(name)) {
        return Ok(None);
    }
    let mut keys = BTreeMap::new();
    for (line, number) in lines.take_while(|(line, _)| !line.starts_with('[')) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or(Problem::new("a line has no =").within(PLACE))?;
        let key = KEYS.find(number, key).map_err(|problem| problem.within(PLACE))?;
        if key == "service" {
            return Err(Problem::new("a service refers to another one").within(PLACE));
        }
        keys.entry(key).or_insert(plain(PLACE, value)?.to_owned());
    }
    Ok(Some(keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_a_section() {
        let text =
            "host=no\n[a]\nhost=no\n\n[b]\r\n# host=no\n host=h,i \npassword=p = q\nhost=no\n[c]\nport=1\n[b]\nport=2";
        let keys = |pairs: &[(&'static str, &str)]| pairs.iter().map(|&(key, value)| (key, value.to_owned())).collect();
        assert_eq!(find(text, "b"), Ok(Some(keys(&[("host", "h,i"), ("password", "p = q")]))));
        assert_eq!(find(text, "d"), Ok(None));
        for wrong in ["[a]\nhunter2", "[a]\nhunter2=x", "[a]\nservice=hunter2"] {
            assert!(!format!("{:?}", find(wrong, "a").unwrap_err()).contains("hunter2"), "{wrong}");
        }
    }
}
