//! Tables of a user without rights, whose readers or removers would execute functions with their own rights.

use std::sync::Arc;

use broadside::{DatabaseConfig, ErrorKind, SystemClock};
use libtest_mimic::Trial;
use tokio_postgres::{Client, NoTls};

use super::trial;
use crate::support::server::Server;

pub fn trials() -> Vec<Trial> {
    vec![trial("no-function-of-another-user-is-executed", traps)]
}

/// `springs` records who executes it, if that user may write the table.
const ROLES: &str = "
    CREATE ROLE victim LOGIN PASSWORD 'victim'; CREATE ROLE mallory;
    GRANT CREATE ON DATABASE postgres TO mallory, victim;
    CREATE SCHEMA evidence AUTHORIZATION victim; GRANT USAGE ON SCHEMA evidence TO mallory;
    CREATE TABLE evidence.sprung (trap text, who name); ALTER TABLE evidence.sprung OWNER TO victim;
    CREATE SCHEMA open AUTHORIZATION victim; GRANT ALL ON SCHEMA open TO mallory;
    SET ROLE mallory; CREATE SCHEMA mal;
    CREATE FUNCTION mal.springs(trap text) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO evidence.sprung VALUES (trap, current_user);
            RETURN true;
        EXCEPTION WHEN insufficient_privilege THEN RETURN true;
        END $$;
    CREATE FUNCTION mal.constant(trap text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
        BEGIN RETURN (SELECT mal.springs(trap)); END $$;
    CREATE FUNCTION mal.on_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM mal.springs('trigger'); RETURN OLD; END $$;
    GRANT USAGE ON SCHEMA mal TO PUBLIC";

const MARKER: &str = "INSERT INTO broadside_store VALUES ('made_by', 'broadside 0.2.0'),
    ('created', '2020-01-01T00:00:00Z'), ('scratch', 'true'), ('layout', 'partition_by_submitted'), ('version', '3')";

const PLAIN: &str = "CREATE TABLE broadside_store (key text PRIMARY KEY, value text NOT NULL)";

/// Each schema with its statements.
fn schemas() -> Vec<(&'static str, String)> {
    vec![
        (
            "casts",
            "CREATE TYPE letters AS (text text);
            CREATE FUNCTION spell(letters) RETURNS text LANGUAGE plpgsql AS $$
                BEGIN PERFORM mal.springs('cast'); RETURN ($1).text; END $$;
            CREATE CAST (letters AS text) WITH FUNCTION spell(letters);
            CREATE TABLE broadside_store (key letters PRIMARY KEY, value text);
            INSERT INTO broadside_store VALUES (ROW('made_by'), 'x')"
                .to_owned(),
        ),
        (
            "policies",
            format!(
                "{PLAIN}; {MARKER}; ALTER TABLE broadside_store ENABLE ROW LEVEL SECURITY;
                CREATE POLICY trap ON broadside_store USING (mal.springs('policy'))"
            ),
        ),
        ("indexes", format!("{PLAIN}; {MARKER}; CREATE INDEX ON broadside_store (value) WHERE mal.constant('index')")),
        (
            "children",
            format!(
                "{PLAIN}; {MARKER}; CREATE TABLE child (CHECK (mal.constant('check'))) INHERITS (broadside_store);
                GRANT SELECT ON child TO PUBLIC"
            ),
        ),
        (
            "triggers",
            format!(
                "{PLAIN}; {MARKER}; CREATE TABLE job_key (job_id text, submitted timestamp);
                CREATE TABLE job (job_id text, submitted timestamp) PARTITION BY RANGE (submitted);
                CREATE TABLE job_2026_01_01 PARTITION OF job DEFAULT;
                INSERT INTO job VALUES ('a', '2026-01-01'); INSERT INTO job_key VALUES ('a', '2026-01-01');
                CREATE TRIGGER trap BEFORE DELETE ON job_key FOR EACH ROW EXECUTE FUNCTION mal.on_change()"
            ),
        ),
    ]
}

async fn session(address: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn traps() {
    let server = Server::postgres("traps", "");
    let client = session(server.address()).await;
    client.batch_execute(ROLES).await.unwrap();
    for (schema, statements) in schemas() {
        let make = format!(
            "CREATE SCHEMA {schema}; SET search_path = {schema}; {statements};
            GRANT USAGE ON SCHEMA {schema} TO PUBLIC; GRANT SELECT ON broadside_store TO PUBLIC"
        );
        client.batch_execute(&make).await.unwrap();
    }
    // A marker in the schema of another user.
    client.batch_execute(&format!("SET search_path = open; {PLAIN}; {MARKER}")).await.unwrap();
    client.batch_execute("GRANT SELECT ON broadside_store TO PUBLIC; RESET ROLE; RESET search_path").await.unwrap();

    let superuser = server.address().to_owned();
    let victim = superuser.replace("broadside:broadside@", "victim:victim@");
    for address in [victim, superuser] {
        let config: DatabaseConfig = address.parse().unwrap();
        let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
        let listed = config.scratch_stores().await.unwrap();
        let listed: Vec<_> = listed.iter().map(|store| store.name.as_str()).collect();
        assert_eq!(listed, ["children", "triggers", store.name().unwrap()]);
        for refused in ["casts", "policies", "indexes", "open"] {
            let error = config.remove_scratch(refused).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongStore, "{refused}: {error:?}");
        }
        store.remove().await.unwrap();
    }
    let config: DatabaseConfig = server.address().parse().unwrap();
    for removed in ["children", "triggers"] {
        config.remove_scratch(removed).await.unwrap();
    }
    let sprung =
        client.query("SELECT DISTINCT trap || ' by ' || who FROM evidence.sprung ORDER BY 1", &[]).await.unwrap();
    let sprung: Vec<String> = sprung.iter().map(|row| row.get(0)).collect();
    assert!(sprung.is_empty(), "{sprung:?}");
}
