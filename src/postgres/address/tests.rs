//! Tests of addresses and their configurations.

use super::*;
use crate::postgres::config::{SslMode, TargetSessionAttrs};

/// Parses an address in an empty environment.
fn read(text: &str) -> Result<PostgresConfig, Problem> {
    read_in(text, &[])
}

fn read_in(text: &str, environment: &[(&str, &str)]) -> Result<PostgresConfig, Problem> {
    let pairs = if text.contains("://") { Pairs::of_url(text) } else { Pairs::of_key_values(text) };
    let value = |name: &str| environment.iter().find(|(variable, _)| *variable == name).map(|(_, value)| value.into());
    pairs?.into_config(&value)
}

#[test]
fn a_url_and_its_key_values_are_equivalent() {
    let url = "postgres://us%20er:p%40ss%25@example.com:5433/d%2Fb?sslmode=verify-full&schema=s&pool_size=3";
    let text = r"host=example.com port = 5433 user='us er' password='p@ss%' dbname=d/b sslmode=verify-full
        schema=s pool_size=3";
    for config in [read(url).unwrap(), read(text).unwrap()] {
        assert_eq!(config.server.get_user(), Some("us er"));
        assert_eq!(config.server.get_password(), Some(b"p@ss%".as_slice()));
        assert_eq!(config.server.get_dbname(), Some("d/b"));
        assert_eq!(config.ports, [5433]);
        assert_eq!(config.hosts, ["example.com"]);
        assert_eq!(config.server.get_application_name(), Some("broadside"));
        assert_eq!(config.ssl_mode, SslMode::VerifyFull);
        assert_eq!(config.schema.as_deref(), Some("s"));
        assert_eq!(config.pool_size, 3);
    }
}

#[test]
fn urls_are_read_by_libpqs_rules() {
    let config = read("postgresql://u@h1:1,h2,[::1]:3/d").unwrap();
    assert_eq!(config.hosts, ["h1", "h2", "::1"]);
    assert_eq!(config.ports, [1, 5432, 3]);
    let config = read("postgres://u:p+q@h/d?application_name=a+b%20c&password=r@s").unwrap().server;
    assert_eq!(config.get_application_name(), Some("a+b c"));
    assert_eq!(config.get_password(), Some(b"r@s".as_slice()));
    // A key of the query takes precedence, and the last of two.
    let config = read("postgres://h1:1/d?host=h2&port=2&port=3").unwrap();
    assert_eq!((config.hosts, config.ports), (vec!["h2".to_owned()], vec![3]));
    assert_eq!(read("postgres://").unwrap().hosts().next(), Some(("localhost".to_owned(), 5432)));
    assert_eq!(read("postgres://h,/d").unwrap().hosts, ["h", "localhost"]);
    assert_eq!(read("postgres://h/d?ssl=true").unwrap().ssl_mode, SslMode::Require);
}

#[cfg(unix)]
#[test]
fn a_directory_is_a_host() {
    for text in ["postgres://user@/db?host=/dir", "postgres://user@%2Fdir/db", "host=/dir user=user dbname=db"] {
        let config = read(text).unwrap();
        assert_eq!(config.hosts, ["/dir"]);
        let config = &config.driver_configs()[0];
        assert_eq!(config.get_hosts(), [tokio_postgres::config::Host::Unix("/dir".into())]);
        assert_eq!((config.get_user(), config.get_dbname()), (Some("user"), Some("db")));
    }
}

#[test]
fn quotes_and_backslashes_are_those_of_libpq() {
    let config = read(r"user='it\'s \\' password=a\ b\'c application_name=''").unwrap().server;
    assert_eq!(config.get_user(), Some(r"it's \"));
    assert_eq!(config.get_password(), Some(b"a b'c".as_slice()));
    assert_eq!(config.get_application_name(), Some(""));
}

#[test]
fn a_timeout_of_zero_is_no_limit() {
    for value in ["0", "-1"] {
        let config = read(&format!("connect_timeout={value}")).unwrap();
        assert_eq!(config.connect_timeout, Duration::from_secs(MAX_SECONDS.into()));
    }
    assert_eq!(read("connect_timeout=1.5").unwrap().connect_timeout, Duration::from_millis(1500));
    assert_eq!(read("statement_timeout=0").unwrap().statement_timeout, Some(Duration::ZERO));
}

#[test]
fn errors_name_the_key_and_contain_no_value() {
    for (query, named) in [
        ("colour=hunter2", "key 1 is unknown; the keys are host, hostaddr, port"),
        ("sslmode=disable&hunter2=1", "key 2 is unknown; the keys are host"),
        ("hunter2", "a key of the query has no ="),
        ("pool_size=0", "pool_size must be a whole number from 1 to"),
        ("pool_size=hunter2", "pool_size must be"),
        ("pool_size=9000000000000000000", "pool_size must be"),
        ("connect_timeout=10000000000000000000", "connect_timeout must be a number of seconds"),
        ("connect_timeout=NaN", "connect_timeout must be"),
        ("acquire_timeout=1e300", "acquire_timeout must be"),
        ("statement_timeout=2147484", "statement_timeout must be"),
        ("statement_cache=9000000000000000000", "statement_cache must be"),
        ("keepalives_idle=10000000000000000000", "keepalives_idle must be"),
        ("keepalives_count=-1", "keepalives_count must be"),
        ("port=hunter2", "port must be a number from 1 to 65535"),
        ("port=0", "port must be"),
        ("port=1,2", "port must be one port or as many as there are hosts"),
        ("hostaddr=1.2.3.4,1.2.3.5", "hostaddr must be as many addresses"),
        ("hostaddr=hunter2", "hostaddr must be an IP address"),
        ("host=a%20b", "host must be a host name"),
        ("sslmode=hunter2", "sslmode must be disable, prefer"),
        ("target_session_attrs=hunter2", "target_session_attrs must be any"),
        ("service=hunter2", "no service file defines the service"),
        ("schema=", "schema must be a name"),
        ("hot_cold_split=hunter2", "hot_cold_split must be true or false"),
        ("options=-B%205", "options must be settings: -c name=value"),
        ("hot_cold_split=true&partition_by_submitted=true", "partition_by_submitted must be false"),
        ("application_name=100%", "a % is not followed by two hexadecimal digits"),
        ("user=a%00b", "a NUL character"),
    ] {
        let problem = read(&format!("postgres://u:hunter2@h/d?{query}")).unwrap_err().into_error(BackendKind::Postgres);
        assert_eq!(problem.kind(), crate::ErrorKind::InvalidArgument);
        assert!(problem.message().contains(named), "{query}: {problem}");
        assert!(!format!("{problem} {problem:?}").contains("hunter2"), "{query}: {problem:?}");
    }
    let long = format!("schema={}", "s".repeat(64));
    assert_eq!(read(&long).unwrap_err(), Problem::value("schema", "a name of 1 to 63 bytes"));
}

#[test]
fn malformed_addresses_are_rejected() {
    for text in [
        "password=my secret host=h",
        "password='hunter2",
        "host",
        "=h",
        "host=h =x",
        "postgres://u:p@w@h/d",
        "postgres://[::1/d",
        "postgres://[::1]5/d",
        "postgres://u:pa/w@h/d",
    ] {
        assert!(read(text).is_err(), "{text}");
    }
}

#[test]
fn the_environment_adds_what_is_missing() {
    let environment =
        [("PGHOST", "e"), ("PGPORT", "7"), ("PGUSER", "eu"), ("PGPASSWORD", "ep"), ("PGSSLMODE", "require")];
    let config = read_in("postgres://u@/d", &environment).unwrap();
    assert_eq!(config.hosts, ["e"]);
    assert_eq!(config.ports, [7]);
    assert_eq!(config.server.get_user(), Some("u"));
    assert_eq!(config.server.get_password(), Some(b"ep".as_slice()));
    assert_eq!(config.ssl_mode, SslMode::Require);
    let config = read_in("postgres://u:p@h:1/d", &environment).unwrap();
    assert_eq!((config.server.get_password(), config.ports), (Some(b"p".as_slice()), vec![1]));
    let problem = read_in("host=h", &[("PGPORT", "hunter2")]).unwrap_err();
    assert_eq!(problem, Problem::value("port", "a number from 1 to 65535, or several with commas").within("PGPORT"));
}

#[test]
fn a_service_adds_what_the_address_leaves_out() {
    let file = std::env::temp_dir().join(format!("broadside-service-{}", std::process::id()));
    std::fs::write(&file, "[prod]\nhost=s\nport=9\nuser=su\ntarget_session_attrs=primary\n").unwrap();
    let environment = [("PGSERVICEFILE", file.to_str().unwrap()), ("PGUSER", "eu"), ("PGDATABASE", "ed")];
    let named = [("PGSERVICE", "prod")].into_iter().chain(environment).collect::<Vec<_>>();
    for config in [read_in("postgres://h/?service=prod", &environment), read_in("host=h", &named)] {
        let config = config.unwrap();
        assert_eq!(config.hosts().collect::<Vec<_>>(), [("h".to_owned(), 9)]);
        assert_eq!((config.server.get_user(), config.server.get_dbname()), (Some("su"), Some("ed")));
        assert_eq!(config.target_session_attrs, TargetSessionAttrs::Primary);
    }
    assert!(read_in("service=other", &environment).is_err());
    std::fs::remove_file(&file).unwrap();
}

/// The passwords of the hosts.
fn passwords(address: &str, file: &Path) -> Vec<Option<String>> {
    let servers = read(&format!("{address} passfile={}", file.display())).unwrap().driver_configs();
    servers.iter().map(|server| server.get_password().map(|text| String::from_utf8(text.to_owned()).unwrap())).collect()
}

#[test]
fn each_host_has_its_password_of_the_password_file() {
    let file = std::env::temp_dir().join(format!("broadside-passwords-{}", std::process::id()));
    std::fs::write(&file, "h:5432:x:u:no\nh:5432:d:u:1\n\\:\\:1:*:*:u:2\nb:7:*:u:3\n").unwrap();
    #[cfg(unix)]
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(passwords("host=h,a,b port=5432,6,7 user=u dbname=d", &file), [some("1"), None, some("3")]);
    assert_eq!(passwords("hostaddr=::1 user=u", &file), [some("2")]);
    assert_eq!(passwords("host=h user=u dbname=d password=mine", &file), [some("mine")]);
    assert_eq!(passwords("host=h user=other dbname=d", &file), [None]);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn keys_in_code_are_those_of_an_address() {
    let read = read(
        "host=a,b port=1,2 user=u password=hunter2 keepalives=0 keepalives_idle=4 keepalives_interval=5 \
         keepalives_count=6 channel_binding=require load_balance_hosts=random options='-c x=y' pool_size=7",
    )
    .unwrap();
    let mut built = PostgresConfig::default();
    for (key, value) in [("host", "a,b"), ("port", "1,2"), ("user", "u"), ("password", "hunter2"), ("keepalives", "0")]
    {
        built = built.with(key, value).unwrap();
    }
    for (key, value) in [("keepalives_idle", 4), ("keepalives_interval", 5), ("keepalives_count", 6), ("pool_size", 7)]
    {
        built = built.with(key, value).unwrap();
    }
    built = built.with("channel_binding", "require").unwrap().with("load_balance_hosts", "random").unwrap();
    built = built.with_setting("x", "y").unwrap();
    assert_eq!((&built.server, &built.settings), (&read.server, &read.settings));
    assert_eq!(built.hosts().collect::<Vec<_>>(), [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    assert!(!built.server.get_keepalives());
    assert_eq!(built.server.get_keepalives_idle(), Duration::from_secs(4));
    assert_eq!(built.server.get_keepalives_interval(), Some(Duration::from_secs(5)));
    assert_eq!(built.server.get_keepalives_retries(), Some(6));
    assert_eq!(built.server.get_channel_binding(), ChannelBinding::Require);
    assert_eq!(built.server.get_load_balance_hosts(), LoadBalanceHosts::Random);
    assert_eq!(built.to_string(), "postgres (layout lookout, sslmode prefer, at most 7 connections)");
    assert!(built.clone().with("port", "1,2,3").unwrap().check().is_err());
    for error in
        [built.clone().with("pool_size", "hunter2"), built.clone().with("hunter2", ""), built.with("schema", "")]
    {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidArgument);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    for (name, value) in [("", "v"), ("a\0", "v"), ("a", "\0")] {
        assert!(PostgresConfig::default().with_setting(name, value).is_err());
    }
}

#[test]
fn debug_contains_no_part_of_the_address() {
    let config =
        read("postgres://hunter1:hunter2@hunter3/hunter4?options=-c%20hunter5=hunter5&schema=hunter6").unwrap();
    assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
}
