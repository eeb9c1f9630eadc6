//! Addresses and passwords, which must not be part of the output.

use std::process::Output;

use crate::{INITIALISE, broadside, code, file, run, stderr, stdout};

#[test]
fn an_unreachable_backend_exits_with_2_without_showing_the_password() {
    // There is no server on port 1.
    for backend in ["postgres://u:hunter2@127.0.0.1:1/d?sslmode=disable", "clickhouse+http://u:hunter2@127.0.0.1:1/d"] {
        let output = run(&["-vvv", "replay", "--backend", backend, "-"]);
        assert_eq!(code(&output), 2, "{backend}");
        assert!(!stderr(&output).is_empty());
        assert!(!stderr(&output).contains("hunter2"), "{}", stderr(&output));
    }
}

/// Arguments with mistyped addresses that contain the password hunter2.
const MISTYPED: [&[&str]; 30] = [
    &["--backend=postgres:/u:hunter2@h/d"],
    &["--backend=u:hunter2@h:5432/d"],
    &["--backend=clickhouse+http:/u:hunter2@h/d"],
    &["--backend=postgres:u:hunter2@h/d?sslmode=disable"],
    &["--backend=password=my hunter2 host=h"],
    &["--backend=password='hunter2"],
    &["--backend", "hunter2"],
    &["--backend", "hunter2://u@h"],
    &["--backend", "hunter2=1"],
    &["--backend", "postgre://u:hunter2@h/d"],
    &["--backend", "POSTGRES://u:hunter2@h/d"],
    &["--backend", "postgres://u:hun@ter2@h/d"],
    &["--backend", "postgres://u:12/hunter2@h/d?port=x"],
    &["--backend", "postgres://u@h:hunter2/d"],
    &["--backend", "postgres://u:100%hunter2@h"],
    &["--backend", "postgres://u@h/d?password=x&hunter2"],
    &["--backend", "postgres://u@h/d?password=x&hunter2=y"],
    &["--backend", "postgres://u@h/d?pool_size=hunter2"],
    &["--backend", "postgres://u@h/d?service=hunter2"],
    &["--backend", "postgres://u@h/d?sslcert=hunter2&sslkey=hunter2"],
    &["--backend", "postgres://u@h/d?sslcert=/x&sslpassword=hunter2"],
    &["--backend", "clickhouse+http://u:hun@ter2@h/d"],
    &["--backend", "clickhouse+https://u:12/hunter2@h/d"],
    &["--backend", "clickhouse+http://h/d?timeout=hunter2"],
    &["--backend", "clickhouse+http://h/d?hunter2=1"],
    // An unquoted address that contains a space is split into several arguments.
    &["--backend", "password=my", "hunter2", "host=h"],
    &["--backend", "host=h", "postgres://u:hunter2@h/d"],
    &["--backend", "memory", "--hunter2"],
    &["--backend", "memory", "--password=hunter2"],
    &["postgres://u:hunter2@h/d"],
];

/// Checks that the output does not contain four consecutive characters of the password, except for `nter`, which is
/// part of `keepalives_interval`.
fn assert_no_password(output: &Output, context: impl std::fmt::Debug) {
    let text = format!("{}{}", stdout(output), stderr(output)).to_lowercase();
    for part in ["hunt", "unte", "ter2"] {
        assert!(!text.contains(part), "{context:?}: {text}");
    }
}

#[test]
fn mistyped_addresses_are_not_shown() {
    for command in ["replay", "smoke", "compare", "explain", "run", "sql", "stats", "clean"] {
        for typed in MISTYPED {
            let output = run(&[&[command], typed].concat());
            assert_eq!(code(&output), 2, "{command} {typed:?}");
            assert!(stderr(&output).starts_with("error: "), "{command} {typed:?}: {}", stderr(&output));
            assert_no_password(&output, (command, typed));
        }
    }
    for arguments in [&["hunter2"][..], &["postgres://u:hunter2@h/d"], &["--hunter2"], &["smoke", "--jobs", "hunter2"]]
    {
        let output = run(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert_no_password(&output, arguments);
    }
}

#[test]
fn addresses_in_environment_variables_are_not_shown() {
    for (backend, variable) in [("postgres", "BROADSIDE_POSTGRES_URL"), ("clickhouse", "BROADSIDE_CLICKHOUSE_URL")] {
        for address in ["u:hunter2@h", "postgres://u:hun@ter2@h", "clickhouse+http://u:hunter2@h:x", "memory"] {
            let output = broadside(&["replay", "--backend", backend, "-"]).env(variable, address).output().unwrap();
            assert_eq!(code(&output), 2, "{address}");
            assert!(stderr(&output).contains(variable), "{address}: {}", stderr(&output));
            assert_no_password(&output, address);
        }
    }
    let output = broadside(&["replay", "--backend", "host=127.0.0.1", "-"]).env("PGPORT", "hunter2").output().unwrap();
    assert!(stderr(&output).contains("PGPORT: port must be"), "{}", stderr(&output));
    assert_no_password(&output, "PGPORT");
}

/// The address of the test server with other credentials; `None` if there is no server.
fn server_with(variable: &str, credentials: &str) -> Option<String> {
    let Ok(address) = std::env::var(variable) else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{variable} is not set");
        return None;
    };
    let (scheme, rest) = address.split_once("://").unwrap();
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    Some(format!("{scheme}://{credentials}{rest}"))
}

#[test]
fn rejected_credentials_are_not_shown() {
    for variable in ["BROADSIDE_POSTGRES_URL", "BROADSIDE_CLICKHOUSE_URL"] {
        for credentials in ["hunter2:x@", "u%3Ahunter2:x@", "u:hunter2@"] {
            let Some(address) = server_with(variable, credentials) else { return };
            let output = run(&["smoke", "--backend", &address]);
            assert_eq!(code(&output), 2, "{credentials}");
            assert!(stderr(&output).contains("the server refuses the user or the password"), "{}", stderr(&output));
            assert_no_password(&output, credentials);
        }
    }
}

#[cfg(unix)]
#[test]
fn the_password_is_read_from_the_environment_or_the_password_file() {
    use std::os::unix::fs::PermissionsExt;

    let Some(without) = server_with("BROADSIDE_POSTGRES_URL", "broadside@") else { return };
    let address = std::env::var("BROADSIDE_POSTGRES_URL").unwrap();
    let (_, rest) = address.split_once("://broadside:").unwrap();
    let (password, _) = rest.split_once('@').unwrap();
    let scenario = file("password.jsonl", INITIALISE);
    let replay = || {
        let mut command = broadside(&["replay", "--backend", &without, &scenario]);
        command.env_remove("PGPASSWORD").env("HOME", "/nonexistent");
        command
    };
    assert_eq!(code(&replay().output().unwrap()), 2);
    assert_eq!(code(&replay().env("PGPASSWORD", password).output().unwrap()), 0);
    assert_eq!(code(&replay().env("PGPASSWORD", "hunter2").output().unwrap()), 2);
    let passwords = file("pgpass", &format!("# the test server\n*:*:*:broadside:{password}\n"));
    for (mode, expected) in [(0o600, 0), (0o644, 2)] {
        std::fs::set_permissions(&passwords, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = replay().env("PGPASSFILE", &passwords).output().unwrap();
        assert_eq!(code(&output), expected, "{mode:o}: {}", stderr(&output));
    }
}
