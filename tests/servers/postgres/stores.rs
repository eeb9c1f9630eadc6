//! Stores: markers, adoption, scratch stores, and settings that name another schema.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::trial;
use crate::support::jobs::all_jobs;
use crate::support::postgres::{
    LAYOUTS, Layout, batch, connect, handle, insert, job_set, schema, session, shared, store, succeeded, try_handle,
    write_errors,
};
use crate::support::server::{Server, with};
use broadside::{DatabaseConfig, ErrorKind, Outcome, ScratchStore, SystemClock};
use libtest_mimic::Trial;
use tokio_postgres::{Client, NoTls};

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("a-store-has-a-marker", marker),
        trial("tables-without-a-marker-are-not-changed", foreign_tables),
        trial("a-later-version-is-rejected", later_version),
        trial("tear-down-removes-properties", properties),
        trial("the-users-search-path-does-not-select-the-store", search_path),
        trial("scratch-stores-are-identified-by-their-marker", scratch_stores),
        trial("a-scratch-store-that-cannot-be-opened-is-removed", unopened),
        trial("a-long-name-is-rejected", long_name),
        trial("an-encoding-without-all-of-unicode-is-rejected", encoding),
        trial("many-partitions-are-dropped-in-several-transactions", many_partitions),
    ];
    trials.push(trial("a-refused-command-changes-nothing", refusals));
    for layout in LAYOUTS {
        let name = format!("lookouts-own-tables-can-be-adopted::{}", layout.name);
        trials.push(trial(&name, move || adopted(layout)));
        let name = format!("the-statistics-of-the-planner-are-updated::{}", layout.name);
        trials.push(trial(&name, move || analysed(layout)));
    }
    trials
}

/// The marker, without the time of creation.
async fn marker_of(session: &Client) -> Vec<(String, String)> {
    let rows =
        session.query("SELECT key, value FROM broadside_store WHERE key <> 'created' ORDER BY key", &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn marker() {
    let config: DatabaseConfig = shared("hot_cold_split=true").parse().unwrap();
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    let session = session(&store, &shared("")).await;
    let made_by = ("made_by".to_owned(), format!("broadside {}", env!("CARGO_PKG_VERSION")));
    let scratch = ("scratch".to_owned(), "true".to_owned());
    assert_eq!(marker_of(&session).await, [made_by.clone(), scratch.clone()]);
    store.database().initialise_schema().await.unwrap();
    let (layout, version) = (("layout", "hot_cold_split"), ("version", "4"));
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let expected = [owned(layout), made_by, scratch, owned(version)];
    assert_eq!(marker_of(&session).await, expected);
    store.database().tear_down().await.unwrap();
    assert_eq!(marker_of(&session).await, expected);
    store.remove().await.unwrap();
}

/// A store as Lookout creates it: without Broadside's own tables.
pub async fn unmarked(layout: Layout) -> ScratchStore {
    let store = store(&shared(layout.parameter)).await;
    let jobs = [insert("a", "js"), insert("b", "js"), succeeded("b")];
    store.database().execute_ingestion_query_batch(&batch(jobs)).await.unwrap();
    let drop = "DROP TABLE broadside_store, broadside_migration, broadside_deferred_index";
    session(&store, &shared("")).await.batch_execute(drop).await.unwrap();
    store
}

/// Drops a store without a marker, which `remove_scratch` rejects.
pub async fn drop_unmarked(store: ScratchStore) {
    let error = store.config().remove_scratch(store.name().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
    let session = session(&store, &shared("")).await;
    store.database().close().await.unwrap();
    session.batch_execute(&format!("DROP SCHEMA {} CASCADE", schema(&store))).await.unwrap();
}

/// Lookout's tables without a marker can be read but not written. Other tables with names of Lookout's cannot be used.
async fn foreign_tables() {
    let store = unmarked(LAYOUTS[0]).await;
    let reader = handle(&store, &shared("")).await;
    let before = all_jobs(&*reader).await;
    assert_eq!(before.len(), 2);
    let mut errors = write_errors(&*reader).await;
    errors.push(reader.analyse().await.unwrap_err());
    errors.push(reader.initialise_schema().await.unwrap_err());
    errors.push(reader.execute_ingestion_query_batch(&batch([])).await.unwrap_err());
    for error in errors {
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongStore, Outcome::NotApplied), "{error:?}");
        assert!(error.message().contains("adopt=true"), "{error:?}");
    }
    assert_eq!(all_jobs(&*reader).await, before);
    for layout in &LAYOUTS[1..] {
        let refused = try_handle(&store, &shared(layout.parameter)).await.map(drop);
        if layout.parameter.starts_with("hot_cold") {
            // It may be opened to split the tables, which requires `adopt`.
            let error = handle(&store, &shared(layout.parameter)).await.initialise_schema().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
        } else {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::WrongStore);
        }
    }
    assert_eq!(all_jobs(&*reader).await, before);

    let session = session(&store, &shared("")).await;
    let theirs = "DROP TABLE job, job_run, job_spec, job_error, job_deduplication;
        CREATE TABLE job_run (theirs integer); INSERT INTO job_run VALUES (1)";
    session.batch_execute(theirs).await.unwrap();
    for parameters in ["", "hot_cold_split=true", "adopt=true"] {
        let error = try_handle(&store, &shared(parameters)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
    }
    // A handle that was opened before must not clear these tables.
    for error in write_errors(&*reader).await {
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongStore, Outcome::NotApplied), "{error:?}");
    }
    assert_eq!(count(&session, "job_run").await, 1);
    drop_unmarked(store).await;
}

async fn count(session: &Client, table: &str) -> i64 {
    session.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
}

/// The catalogue has statistics of each table with rows, which autovacuum would not yet create for a few rows.
async fn analysed(layout: Layout) {
    let store = store(&shared(layout.parameter)).await;
    let database = store.database();
    let jobs = [insert("a", "js"), insert("b", "js"), succeeded("b")];
    database.execute_ingestion_query_batch(&batch(jobs)).await.unwrap();
    let session = session(&store, &shared("")).await;
    let statistics = "SELECT DISTINCT tablename::text FROM pg_stats
        WHERE schemaname = current_schema() AND tablename LIKE 'job%' AND attname = 'job_id'";
    assert!(session.query(statistics, &[]).await.unwrap().is_empty());
    let before = all_jobs(&**database).await;
    database.analyse().await.unwrap();
    let tables = session.query(statistics, &[]).await.unwrap();
    let tables: BTreeSet<String> = tables.iter().map(|row| row.get(0)).collect();
    let (expected, with_rows) = match layout.parameter {
        parameter if parameter.starts_with("hot_cold") => (["job", "job_historical"].as_slice(), tables.clone()),
        "" => (["job"].as_slice(), tables.clone()),
        // The partitioned table and its partition.
        _ => (["job", "job_key"].as_slice(), tables.iter().filter(|name| !name.contains("_1970")).cloned().collect()),
    };
    let expected: BTreeSet<_> = expected.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(with_rows, expected, "{tables:?}");
    assert_eq!(all_jobs(&**database).await, before);
    database.close().await.unwrap();
    assert_eq!(database.analyse().await.unwrap_err().kind(), ErrorKind::Closed);
    store.remove().await.unwrap();
}

/// With `adopt`, the tables can be used at once in their own layout, and with ids in another collation.
async fn adopted(layout: Layout) {
    let store = unmarked(layout).await;
    if layout.name == "lookout" {
        let session = session(&store, &shared("")).await;
        let own = r#"ALTER TABLE job ALTER job_id TYPE varchar(32) COLLATE "default", ALTER queue TYPE varchar(512) COLLATE "default";
            ALTER TABLE job_run ALTER run_id TYPE varchar(36) COLLATE "default""#;
        session.batch_execute(own).await.unwrap();
    }
    let database = handle(&store, &shared("adopt=true")).await;
    database.execute_ingestion_query_batch(&batch([insert("c", "js"), succeeded("c")])).await.unwrap();
    let states: BTreeMap<_, _> =
        all_jobs(&*database).await.into_iter().map(|job| (job.job_id, job.state.to_string())).collect();
    let expected = [("a", "QUEUED"), ("b", "SUCCEEDED"), ("c", "SUCCEEDED")];
    assert!(states.iter().map(|(id, state)| (id.as_str(), state.as_str())).eq(expected), "{states:?}");
    // The store has a marker now.
    let other = handle(&store, &shared(layout.parameter)).await;
    other.initialise_schema().await.unwrap();
    other.tear_down().await.unwrap();
    assert!(all_jobs(&*database).await.is_empty());
    drop_unmarked(store).await;
}

async fn later_version() {
    let store = store(&shared("")).await;
    let session = session(&store, &shared("")).await;
    let open = handle(&store, &shared("")).await;
    session.execute("UPDATE broadside_store SET value = '99' WHERE key = 'version'", &[]).await.unwrap();
    let error = try_handle(&store, &shared("")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
    let mut errors = write_errors(&*open).await;
    errors.push(open.analyse().await.unwrap_err());
    errors.push(open.initialise_schema().await.unwrap_err());
    for error in errors {
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongStore, Outcome::NotApplied), "{error:?}");
    }
    store.remove().await.unwrap();
}

async fn properties() {
    let config: DatabaseConfig = shared("").parse().unwrap();
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    let database = store.database();
    let error = database.set_property("key", Some("value")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotInitialised, "{error:?}");
    database.initialise_schema().await.unwrap();
    assert_eq!(database.property("key").await.unwrap(), None);
    for value in ["first", "it's \"second\""] {
        database.set_property("key", Some(value)).await.unwrap();
        assert_eq!(database.property("key").await.unwrap().as_deref(), Some(value));
    }
    database.set_property("other", Some("removed")).await.unwrap();
    database.set_property("other", None).await.unwrap();
    assert_eq!(database.property("other").await.unwrap(), None);
    assert!(database.property("key").await.unwrap().is_some());
    // Properties cannot change the marker.
    database.set_property("layout", Some("mine")).await.unwrap();
    handle(&store, &shared("")).await.tear_down().await.unwrap();
    assert_eq!(database.property("key").await.unwrap(), None);
    store.remove().await.unwrap();
}

/// The schema of the user's search path, in which a store's tables must be neither created nor cleared.
async fn search_path() {
    let theirs = store(&shared("")).await;
    theirs.database().execute_ingestion_query_batch(&job_set("theirs")).await.unwrap();
    let before = all_jobs(&**theirs.database()).await;
    let options = format!("options=-c%20search_path%3D{}", schema(&theirs));
    let ours = store(&shared(&options)).await;
    ours.database().execute_ingestion_query_batch(&job_set("ours")).await.unwrap();
    ours.database().tear_down().await.unwrap();
    assert_eq!(all_jobs(&**theirs.database()).await, before);
    // Without a schema in the address, the search path determines it.
    let found = connect(&shared(&options)).await.unwrap();
    assert_eq!(all_jobs(&*found).await, before);
    ours.remove().await.unwrap();
    assert_eq!(all_jobs(&**theirs.database()).await, before);
    theirs.remove().await.unwrap();
}

async fn scratch_stores() {
    let config: DatabaseConfig = shared("").parse().unwrap();
    let older = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    let newer = store(&shared("partition_by_submitted=true")).await;
    newer.database().execute_ingestion_query_batch(&job_set("set")).await.unwrap();
    let names = async || -> Vec<String> {
        config.scratch_stores().await.unwrap().into_iter().map(|store| store.name).collect()
    };
    let found = names().await;
    let place = |store: &ScratchStore| found.iter().position(|name| name == store.name().unwrap());
    assert!(place(&older).unwrap() < place(&newer).unwrap(), "{found:?}");
    let kept = session(&older, &shared("")).await;
    kept.execute("DELETE FROM broadside_store WHERE key = 'scratch'", &[]).await.unwrap();
    let error = config.remove_scratch(older.name().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
    for unknown in ["public", "no_such_schema"] {
        let error = config.remove_scratch(unknown).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
    }
    config.remove_scratch(newer.name().unwrap()).await.unwrap();
    let left = names().await;
    assert!(!left.iter().any(|name| [older.name(), newer.name()].contains(&Some(name))), "{left:?}");
    drop_unmarked(older).await;
}

/// The store is created and then cannot be opened, because the server adds another table to it.
async fn unopened() {
    let server = Server::postgres("unopened", "");
    let (client, connection) = tokio_postgres::connect(server.address(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let spoil = "
        CREATE FUNCTION spoil() RETURNS event_trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF current_query() LIKE 'CREATE SCHEMA%' AND to_regclass('job_run') IS NULL THEN
                CREATE TABLE job_run (theirs integer);
            END IF;
        END $$;
        CREATE EVENT TRIGGER spoil ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION spoil()";
    client.batch_execute(spoil).await.unwrap();
    let config: DatabaseConfig = server.address().parse().unwrap();
    let error = config.create_scratch(Arc::new(SystemClock)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
    assert_eq!(config.scratch_stores().await.unwrap(), []);
}

async fn long_name() {
    for (length, accepted) in [(63, true), (64, false)] {
        let config = shared(&format!("schema={}", "s".repeat(length))).parse::<DatabaseConfig>();
        assert_eq!(config.is_ok(), accepted);
        assert!(config.err().is_none_or(|error| error.kind() == ErrorKind::InvalidArgument));
    }
}

async fn encoding() {
    let server = Server::postgres("encoding", "");
    let (client, connection) = tokio_postgres::connect(server.address(), NoTls).await.unwrap();
    tokio::spawn(connection);
    for (name, accepted) in [("WIN1252", false), ("SQL_ASCII", true)] {
        let create =
            format!("CREATE DATABASE d_{name} ENCODING '{name}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
        client.batch_execute(&create).await.unwrap();
        let opened = connect(&with(server.address(), &format!("dbname=d_{}", name.to_lowercase()))).await;
        match opened {
            Ok(_) => assert!(accepted, "{name}"),
            Err(error) => assert!(!accepted && error.message().contains(name), "{error:?}"),
        }
    }
}

/// A schema with more partitions than the locks of one transaction.
async fn many_partitions() {
    const DAYS: i64 = 120;
    let server = Server::postgres("partitions", "-c max_locks_per_transaction=10 -c max_connections=20");
    let address = with(server.address(), "partition_by_submitted=true");
    let store = store(&address).await;
    let database = store.database();
    let fill = async || {
        for start in (0..DAYS).step_by(10) {
            let jobs = (start..start + 10).map(|day| {
                let broadside::IngestionQuery::InsertJob(mut query) = insert(&format!("job-{day}"), "js") else {
                    unreachable!()
                };
                query.job.submitted = broadside::Timestamp::from_seconds(day * 86_400);
                query.into()
            });
            database.execute_ingestion_query_batch(&batch(jobs)).await.unwrap();
        }
    };
    let session = session(&store, server.address()).await;
    fill().await;
    database.tear_down().await.unwrap();
    assert_eq!(count(&session, "job").await + count(&session, "job_key").await, 0);
    // Removed ids can be inserted again.
    fill().await;
    assert_eq!(count(&session, "job_key").await, DAYS);
    let error = session.batch_execute(&format!("DROP SCHEMA {} CASCADE", schema(&store))).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "53200", "one transaction has locks for all partitions");
    // The server answers the next statement only after it has rolled back the failed one and released its locks.
    session.batch_execute("").await.unwrap();
    store.remove().await.unwrap();
    let config: DatabaseConfig = address.parse().unwrap();
    assert_eq!(config.scratch_stores().await.unwrap(), []);
}

/// Lookout's tables with five jobs, two of which have ended.
const LOOKOUT: [&str; 4] = [
    include_str!("../../../src/postgres/schema/tables.sql"),
    include_str!("../../../src/postgres/schema/job.sql"),
    include_str!("../../../src/postgres/schema/job_indexes.sql"),
    "INSERT INTO job (job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, submitted, state,
        last_transition_time, last_transition_time_seconds)
    SELECT 'job-' || n, 'q', 'o', 's', 1, 1, 1, 0, 0, now(), CASE WHEN n > 3 THEN 4 ELSE 1 END, now(), 0
    FROM generate_series(1, 5) AS n;
    INSERT INTO job_run (run_id, job_id, cluster, job_run_state) SELECT 'run-' || job_id, job_id, 'c', 3 FROM job;
    INSERT INTO job_spec SELECT job_id, 'spec' FROM job;
    INSERT INTO job_error SELECT job_id, 'error' FROM job",
];

/// The definitions of all objects of the database outside the system's schemas, and the database's settings.
const DEFINITIONS: &str = "
WITH own AS (
    SELECT c.*, format('%I.%I', nspname, relname) AS name FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
)
SELECT concat_ws(' ', 'schema', nspname, nspacl) FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%'
UNION ALL SELECT concat_ws(' ', relkind, name, relfilenode, relpersistence, reloptions, relacl, obj_description(oid, 'pg_class'))
    FROM own
UNION ALL SELECT concat_ws(' ', name, attnum, attname, format_type(atttypid, atttypmod), attcollation, attnotnull,
    attstorage, attisdropped, pg_get_expr(adbin, adrelid))
    FROM own JOIN pg_attribute ON attrelid = own.oid AND attnum > 0 LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
UNION ALL SELECT concat_ws(' ', pg_get_indexdef(indexrelid), indisvalid) FROM own JOIN pg_index ON indrelid = own.oid
UNION ALL SELECT concat_ws(' ', name, conname, pg_get_constraintdef(c.oid)) FROM own JOIN pg_constraint AS c ON conrelid = own.oid
UNION ALL SELECT concat_ws(' ', name, pg_get_viewdef(oid)) FROM own WHERE relkind = 'v'
UNION ALL SELECT concat_ws(' ', name, inhparent::regclass) FROM own JOIN pg_inherits ON inhrelid = own.oid
UNION ALL SELECT concat_ws(' ', 'setting', setconfig) FROM pg_db_role_setting JOIN pg_database AS d ON d.oid = setdatabase
    WHERE datname = current_database()";

/// The catalog of a database, and all rows with the transactions that have written them.
async fn content(session: &Client) -> Vec<String> {
    let texts = async |query: &str| -> Vec<String> {
        session.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    let mut content = texts(DEFINITIONS).await;
    let tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
        WHERE schemaname NOT LIKE 'pg\\_%' AND schemaname <> 'information_schema'";
    for table in texts(tables).await {
        let rows = texts(&format!("SELECT concat_ws(' ', xmin, ctid, t) FROM {table} AS t")).await;
        content.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
    }
    content
}

/// Each refusal of each command leaves the catalog, the rows and the files as they were.
async fn refusals() {
    use crate::support::refusals::Refusals;

    let name = format!("refusals_{}", std::process::id());
    let (server, connection) = tokio_postgres::connect(&shared(""), NoTls).await.unwrap();
    tokio::spawn(connection);
    server.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
    let tuning = format!("tuning_sql=ALTER DATABASE {name} SET work_mem = '5MB'&revert_sql=CREATE TABLE reverted()");
    let address = |parameters: &str| with(&shared(&format!("dbname={name}&{tuning}")), parameters);
    let (session, connection) = tokio_postgres::connect(&shared(&format!("dbname={name}")), NoTls).await.unwrap();
    tokio::spawn(connection);
    for statements in LOOKOUT {
        session.batch_execute(&statements.replace("{active}", "1, 2, 3, 8")).await.unwrap();
    }
    let scratch = address("").parse::<DatabaseConfig>().unwrap().create_scratch(Arc::new(SystemClock)).await.unwrap();
    let refusals = Refusals::new("postgres-refusals", async || content(&session).await);

    refusals.arguments(&address("adopt=true&hot_cold_split=true")).await;
    refusals.read_only(&address("options=-c%20default_transaction_read_only%3Don"), "read-only transaction").await;
    let foreign = "contains 5 jobs that no load test has created";
    for parameters in ["adopt=true&hot_cold_split=true", "adopt=true", "hot_cold_split=true", ""] {
        refusals.loads(&address(parameters), foreign).await;
    }
    refusals.loads(&address("adopt=true&partition_by_submitted=true"), "has the layout lookout").await;
    session.batch_execute("TRUNCATE job, job_run, job_spec, job_error").await.unwrap();
    refusals.loads(&address("hot_cold_split=true"), "adopt=true").await;
    session.batch_execute("CREATE SCHEMA theirs; CREATE TABLE theirs.job (theirs integer)").await.unwrap();
    refusals.loads(&address("adopt=true&schema=theirs"), "not Lookout's tables").await;

    // A store of a load test, which a later one with hot_cold_split=true could split.
    refusals.load("load.yaml", &address("schema=marked"));
    let split = address("schema=marked&hot_cold_split=true");
    let other = ["run", "--config", "load.yaml", "--config", "other.yaml", "--backend", &split];
    refusals.refused(&other, "the historical jobs of another configuration").await;
    // The tear-down splits it, because it contains jobs, and does not create a store where there is none.
    refusals.tear_down(&split);
    assert_eq!(count(&session, "marked.job_all").await, 0);
    refusals.tear_down(&address("schema=nowhere"));
    assert_eq!(count(&session, "pg_namespace WHERE nspname = 'nowhere'").await, 0);

    refusals.load("load.yaml", &split);
    session.batch_execute("DELETE FROM marked.broadside_store WHERE key LIKE 'property.%'").await.unwrap();
    refusals.loads(&split, "that no load test has created").await;
    session.batch_execute("UPDATE marked.broadside_store SET value = '99' WHERE key = 'version'").await.unwrap();
    refusals.loads(&split, "has version 99").await;
    scratch.remove().await.unwrap();
    server.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
}
