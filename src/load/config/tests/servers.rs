//! Tests of the section `databaseConfig`.

use super::*;
use crate::postgres::PostgresConfig;

fn on(section: &str) -> Result<ParsedConfig, ConfigError> {
    parse(&[("a.yaml", &MINIMAL.replace("{inMemory: true}", section))])
}

fn postgres(keys: &str) -> PostgresConfig {
    let parsed = on(&format!("{{postgres: {{host: h, port: 5433, database: d, {keys}}}}}")).unwrap();
    match parsed.config.database.config().unwrap() {
        crate::DatabaseConfig::Postgres(config) => config,
        _ => panic!(),
    }
}

#[test]
fn postgres_supports_the_keys_of_pgx_in_its_units() {
    let address = |keys: &str| PostgresConfig::from_key_values(&format!("host=h port=5433 dbname=d {keys}")).unwrap();
    assert_eq!(
        postgres("user: u, sslmode: disable, pool_max_conns: 3, connect_timeout: 7, statement_cache_capacity: 9"),
        address("user=u sslmode=disable pool_size=3 connect_timeout=7 statement_cache=9")
    );
    assert_eq!(
        postgres("pool_max_conn_lifetime: 1h30m, pool_max_conn_idle_time: 500ms"),
        address("max_lifetime=5400 max_idle_time=0.5")
    );
    let error = on("{postgres: {host: h, port: 1, database: d, pool_max_conn_lifetime: 30}}").unwrap_err();
    assert!(error.to_string().contains("pool_max_conn_lifetime must be a duration with a unit"), "{error}");
    // The server's setting is in milliseconds, the key of an address in seconds.
    assert_eq!(
        postgres("statement_timeout: '30000', LOCK_TIMEOUT: 5s, search_path: 'a, b', options: -c jit=off"),
        address(r"options='-c jit=off -c lock_timeout=5s -c search_path=a,\\ b -c statement_timeout=30000'")
    );
    assert_eq!(postgres("dbname: other"), address("dbname=other"));
    let certified = "sslcert: /c, sslkey: /k, sslpassword: hunter2, target_session_attrs: standby";
    assert_eq!(postgres(certified), address("sslcert=/c sslkey=/k sslpassword=hunter2 target_session_attrs=standby"));
    let parsed = on(&format!("{{postgres: {{host: h, port: 1, database: d, {certified}}}}}")).unwrap();
    assert!(!format!("{:?}", parsed.config).contains("hunter2"));
}

#[test]
fn keys_that_only_apply_to_pgx_are_warnings_and_those_of_other_connections_problems() {
    let keys = "pool_min_conns: 1, default_query_exec_mode: exec, sslmode: disable";
    let parsed = on(&format!("{{postgres: {{host: h, port: 1, database: d, {keys}}}}}")).unwrap();
    let warned: Vec<_> = parsed.warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(warned, ["databaseConfig.postgres.pool_min_conns", "databaseConfig.postgres.default_query_exec_mode"]);
    assert_eq!(postgres(keys), postgres("sslmode: disable"));
    let error = on("{postgres: {host: h, port: 1, database: d, require_auth: hunter2}}").unwrap_err();
    assert_eq!(error.to_string(), "a.yaml:3: databaseConfig.postgres.require_auth is not supported");
}

#[test]
fn the_environment_overrides_keys_of_servers() {
    let text = MINIMAL.replace("{inMemory: true}", "{postgres: {host: h, port: 1, database: d, Pool_Max_Conns: 2}}");
    let parsed = in_environment(
        &text,
        &[
            ("ARMADA_DATABASECONFIG_POSTGRES_PORT", "2"),
            ("ARMADA_DATABASECONFIG_POSTGRES_POOL_MAX_CONNS", "3"),
            ("ARMADA_DATABASECONFIG_POSTGRES_PASSWORD", "hunter2"),
            ("ARMADA_DATABASECONFIG_CLICKHOUSE_HOST", "other"),
        ],
    )
    .unwrap();
    let LoadTarget::Postgres(parameters) = &parsed.config.database.target else { panic!() };
    let found: Vec<_> = parameters.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let expected = [("database", "d"), ("host", "h"), ("password", "hunter2"), ("pool_max_conns", "3"), ("port", "2")];
    assert_eq!(found, expected);
    assert_eq!(parsed.warnings.len(), 1, "{:?}", parsed.warnings);
    let error = in_environment(&text, &[("ARMADA_DATABASECONFIG_POSTGRES_POOL_MAX_CONNS", "hunter2")]).unwrap_err();
    let expected = "ARMADA_DATABASECONFIG_POSTGRES_POOL_MAX_CONNS: databaseConfig.postgres.pool_max_conns ";
    // The key is as the file has it.
    assert!(error.to_string().to_ascii_lowercase().starts_with(&expected.to_ascii_lowercase()), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn scalars_of_postgres_are_texts() {
    let parsed = on("\n  postgres: {host: h, port: 5433, database: d, user: u, password: 007}\n  postgresTuningSQL: [SELECT 1, SELECT 2]").unwrap();
    let LoadTarget::Postgres(parameters) = &parsed.config.database.target else { panic!() };
    assert_eq!(parameters["password"], "007");
    assert_eq!(parsed.config.database.config().unwrap().backend(), BackendKind::Postgres);
    let text = serde_json::to_string(&parsed.config).unwrap() + &format!("{:?}", parsed.config);
    assert!(!text.contains("007") && text.contains("********"), "{text}");
}

/// All outputs of a configuration that are not for its server.
fn outputs(parsed: Result<ParsedConfig, ConfigError>) -> String {
    match parsed {
        Err(error) => format!("{error} {error:?}"),
        Ok(parsed) => {
            let config = &parsed.config;
            let record = serde_json::to_string(config).unwrap();
            let database = config.database.config().map_err(|error| format!("{error} {error:?}"));
            format!("{record} {parsed:?} {} {database:?}", config.database.address())
        }
    }
}

#[test]
fn a_secret_in_a_wrong_place_is_not_shown() {
    const ADDRESS: [(&str, &str); 3] = [("host", "h"), ("port", "8123"), ("database", "d")];
    const KEYS: &str = "host hostaddr port database dbname user username password passfile sslmode sslrootcert \
        sslpassword options application_name connect_timeout target_session_attrs schema pool_size pool_max_conns \
        pool_max_conn_lifetime statement_cache_capacity statement_timeout search_path work_mem colour adopt \
        hot_cold_split secure compression access_token";
    const SECRETS: [&str; 5] =
        ["postgres://u:hunter2@h/d", "u:hunter2@h", "//u:hunter2@h:1/d", "hunter2://h", "{a: hunter2}"];
    for server in ["postgres", "clickHouse"] {
        for (key, secret) in KEYS.split_whitespace().flat_map(|key| SECRETS.map(|secret| (key, secret))) {
            let address = ADDRESS.iter().filter(|(name, _)| *name != key);
            let address: String = address.map(|(name, value)| format!("{name}: {value}, ")).collect();
            let written = if secret.starts_with('{') { secret.to_owned() } else { format!("'{secret}'") };
            let text = outputs(on(&format!("{{{server}: {{{address}{key}: {written}}}}}")));
            assert!(!text.contains("hunter2"), "{server} {key} {secret}: {text}");
            let text = MINIMAL.replace("{inMemory: true}", &format!("{{{server}: {{{address}{key}: '1'}}}}"));
            let variable = format!("ARMADA_DATABASECONFIG_{server}_{key}").to_ascii_uppercase();
            let text = outputs(in_environment(&text, &[(&variable, secret)]));
            assert!(!text.contains("hunter2"), "{variable} {secret}: {text}");
        }
        // Keys whose values are not names of the server.
        for key in ["password", "options", "search_path", "schema", "application_name", "colour", "passfile"] {
            let text = outputs(on(&format!("{{{server}: {{host: h, port: 1, database: d, {key}: hunter2}}}}")));
            assert!(!text.contains("hunter2"), "{server} {key}: {text}");
        }
    }
    for section in ["hunter2", "{postgres: hunter2}", "{inMemory: hunter2}", "{clickHouse: [hunter2]}", "[hunter2]"] {
        let text = outputs(on(section));
        assert!(!text.contains("hunter2"), "{section}: {text}");
    }
    // Characters that begin other scalars of YAML.
    for sign in ["*", "&", "!", "%", "@", "`", "|", ">", "{", "[", "\"", "'", "- ", "? ", ": ", "#"] {
        let text = outputs(on(&format!(
            "\n  postgres:\n    host: h\n    port: 1\n    database: d\n    password: {sign}hunter2\n"
        )));
        assert!(!text.contains("hunter2"), "{sign}: {text}");
    }
}

#[test]
fn a_url_is_not_a_name() {
    for server in ["postgres", "clickHouse"] {
        for key in ["host", "database", "user"] {
            let mut address = vec![("host", "h"), ("port", "1"), ("database", "d")];
            address.retain(|(name, _)| *name != key);
            address.push((key, "postgres://u:hunter2@h/d"));
            let address: Vec<_> = address.iter().map(|(name, value)| format!("{name}: '{value}'")).collect();
            let error = on(&format!("{{{server}: {{{}}}}}", address.join(", "))).unwrap_err();
            let expected = format!("a.yaml:3: databaseConfig.{server}.{key} must not be a URL");
            assert_eq!(error.problems.len(), 1, "{error}");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}

#[test]
fn names_and_quantities_of_a_server_are_in_the_record() {
    let keys = "host: 'a.b-c,::1', port: '1,2', database: d_1, user: u, sslmode: prefer, statement_timeout: 30000, \
                work_mem: 64MB, pool_max_conn_lifetime: 1.5h, jit: off, search_path: a";
    let parsed = on(&format!("{{postgres: {{{keys}}}}}")).unwrap();
    let record = serde_json::to_value(&parsed.config).unwrap();
    let expected = serde_json::json!({
        "host": "a.b-c,::1", "port": "1,2", "database": "d_1", "user": "u", "sslmode": "prefer",
        "statement_timeout": "30000", "work_mem": "64MB", "pool_max_conn_lifetime": "1.5h", "jit": "off",
        "search_path": "********",
    });
    assert_eq!(record["databaseConfig"]["postgres"], expected);
    assert_eq!(parsed.config.database.address(), "postgres at a.b-c,::1:1,2, database d_1");
}

#[test]
fn clickhouse_requires_the_http_port() {
    let parsed = on("{clickHouse: {host: h, port: 8123, database: d, user: u, password: 'p@ss/word'}}").unwrap();
    assert_eq!(parsed.config.database.config().unwrap().backend(), BackendKind::ClickHouse);
    assert!(!serde_json::to_string(&parsed.config).unwrap().contains("p@ss"));
    for port in [9000, 9440] {
        let error = on(&format!("{{clickHouse: {{host: h, port: {port}, database: d}}}}")).unwrap_err();
        let expected =
            format!("a.yaml:3: databaseConfig.clickHouse.port: \"{port}\" is a port of ClickHouse's native protocol");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[tokio::test]
async fn clickhouse_gets_a_password_without_a_user() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    for (keys, user) in [("password: hunter2", "default"), ("username: u, password: hunter2", "u")] {
        let parsed = on(&format!("{{clickHouse: {{host: 127.0.0.1, port: {port}, database: d, {keys}}}}}")).unwrap();
        let config = parsed.config.database.config().unwrap();
        let connecting = async move { config.connect(std::sync::Arc::new(crate::SystemClock)).await.map(drop) };
        let call = tokio::spawn(connecting);
        let (mut stream, _) = server.accept().await.unwrap();
        let mut request = [0; 4096];
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut request).await.unwrap();
        call.abort();
        let request = String::from_utf8_lossy(&request[..read]).to_lowercase();
        assert!(request.contains(&format!("x-clickhouse-user: {user}\r\n")), "{request}");
        assert!(request.contains("x-clickhouse-key: hunter2\r\n"), "{request}");
    }
}

#[test]
fn host_port_and_database_are_required_and_no_secret_is_shown() {
    let error = on("{postgres: {host: '', password: hunter2, colour: hunter2}}").unwrap_err();
    for key in ["host", "port", "database"] {
        assert!(error.to_string().contains(&format!("databaseConfig.postgres.{key} must not be empty")), "{error}");
    }
    let invalid = on("{postgres: {host: h, port: 1, database: d, password: hunter2, adopt: red}}").unwrap_err();
    assert!(invalid.to_string().starts_with("a.yaml:3: databaseConfig.postgres.adopt "), "{invalid}");
    let value = on("{postgres: {host: h, port: 1, database: d, sslmode: hunter2, pool_size: hunter2}}").unwrap_err();
    assert_eq!(
        value.problems.iter().map(|problem| problem.key.as_str()).collect::<Vec<_>>(),
        ["databaseConfig.postgres.sslmode", "databaseConfig.postgres.pool_size"]
    );
    let text = on("{postgres: 'postgres://u:hunter2@h/d'}").unwrap_err();
    assert!(text.to_string().contains("databaseConfig.postgres must be a mapping"), "{text}");
    for error in [error, invalid, value, text] {
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}
