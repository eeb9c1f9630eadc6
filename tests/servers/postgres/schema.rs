//! The schema: equality with the tables of Lookout's migrations, concurrent initialisation, layouts, tuning, locales,
//! and the use of the indexes by pages. And connections: the choice among several hosts, and client certificates.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use super::exchange::exported;
use super::trial;
use crate::support::jobs::all_jobs;
use crate::support::postgres::{
    LAYOUTS, Layout, batch, connect, describe, errors, handle, insert, session, shared, store, succeeded, try_handle,
    until,
};
use crate::support::server::{Server, with};
use broadside::postgres::PostgresConfig;
use broadside::query::{Direction, GroupField, GroupOrderKey, JobOrderKey, ReadCall};
use broadside::{
    Database, DatabaseConfig, ErrorKind, GroupQuery, HistoricalJobsParams, IngestionQuery, Job, JobQuery, Outcome,
    ScratchStore, SystemClock,
};
use libtest_mimic::Trial;
use serde_json::json;
use tokio_postgres::NoTls;

const TUNE_JOB: &str = "ALTER TABLE job SET (autovacuum_enabled = off)";
const TUNE_RUN: &str = "ALTER TABLE job_run SET (fillfactor = 50)";
const REVERT: &str = "ALTER TABLE job RESET (autovacuum_enabled)";
/// The number of ended jobs whose pages are explained.
const JOBS: usize = 20_000;
/// The number of active jobs beside them.
const ACTIVE_JOBS: usize = 300;
const TABLES: [&str; 5] = ["job", "job_run", "job_spec", "job_error", "job_deduplication"];

/// Gives the columns of a scratch store another collation, as those of Lookout's tables have, and removes its layout from
/// the marker.
const LOOKOUTS_COLLATION: &str = r#"
DO $$
DECLARE a record;
BEGIN
    FOR a IN
        SELECT attrelid::regclass AS relation, attname, format_type(atttypid, atttypmod) AS type FROM pg_attribute
        WHERE attrelid IN ('job'::regclass, 'job_run'::regclass, 'job_spec'::regclass, 'job_error'::regclass)
            AND attcollation = (SELECT oid FROM pg_collation WHERE collname = 'C') AND NOT attisdropped
    LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s COLLATE "{}"', a.relation, a.attname, a.type);
    END LOOP;
    DROP TABLE broadside_migration, broadside_deferred_index;
    DELETE FROM broadside_store WHERE key IN ('layout', 'version');
END $$"#;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("the-schema-is-lookouts", schema_is_lookouts),
        trial("many-handles-initialise-a-schema-concurrently", initialise_at_once),
        trial("a-schema-is-used-only-in-its-layout", kept_layout),
        trial("tuning-is-applied-and-reverted", tuning),
        trial("strings-are-ordered-by-bytes-in-any-locale", other_locale),
        trial("the-kind-of-session-selects-the-host", hosts),
        trial("a-client-certificate-is-a-login", client_certificates),
    ];
    for layout in LAYOUTS {
        let name = format!("pages-are-read-by-indexes::{}", layout.name);
        trials.push(trial(&name, move || indexed_pages(layout)));
    }
    trials
}

async fn schema_is_lookouts() {
    let store = store(&shared("")).await;
    let description = describe(&session(&store, &shared("")).await, &TABLES).await;
    insta::assert_snapshot!(description);
    store.remove().await.unwrap();
}

async fn initialise_at_once() {
    let config: DatabaseConfig = shared("").parse().unwrap();
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    let calls = (0..8).map(|_| {
        let config = store.config().clone();
        tokio::spawn(async move { config.connect(Arc::new(SystemClock)).await?.initialise_schema().await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    let session = session(&store, &shared("")).await;
    let applied = session.query_one("SELECT count(*) = max(version) FROM broadside_migration", &[]).await.unwrap();
    assert!(applied.get::<_, bool>(0), "a migration was applied twice or not at all");
    store.remove().await.unwrap();
}

/// Lookout's tables can be split in place. No other change of the layout is possible, because a handle with another
/// layout would miss jobs.
async fn kept_layout() {
    let store = store(&shared("")).await;
    let database = store.database();
    database
        .execute_ingestion_query_batch(&batch([insert("a", "js"), insert("b", "js"), succeeded("b")]))
        .await
        .unwrap();
    let before = all_jobs(&**database).await;
    let [_, split, partitioned] = LAYOUTS;
    let refused = async |layout: Layout| {
        let error = try_handle(&store, &shared(layout.parameter)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
    };
    refused(partitioned).await;
    let other = handle(&store, &shared(split.parameter)).await;
    for error in errors(&*other).await {
        assert_eq!(error.kind(), ErrorKind::NotInitialised, "{error:?}");
    }
    other.initialise_schema().await.unwrap();
    assert_eq!(all_jobs(&*other).await, before);
    // A handle that was opened before the split reads only the active jobs, and must report that.
    for error in errors(&**database).await {
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongStore, Outcome::NotApplied), "{error:?}");
    }
    assert_eq!(all_jobs(&*other).await, before);
    other.close().await.unwrap();
    refused(LAYOUTS[0]).await;
    refused(partitioned).await;
    store.remove().await.unwrap();
}

async fn tuning() {
    let keys = format!("tuning_sql={TUNE_JOB}; {TUNE_RUN}&revert_sql={REVERT}");
    assert_tuned(store(&shared(&keys)).await).await;

    // A statement that cannot be executed in a transaction is a separate string.
    let config = PostgresConfig::from_url(&shared("")).unwrap();
    let config = config.with_tuning_sql(["VACUUM job", TUNE_JOB, TUNE_RUN]).with_revert_sql(["VACUUM job", REVERT]);
    let tuned = DatabaseConfig::from(config).create_scratch(Arc::new(SystemClock)).await.unwrap();
    tuned.database().initialise_schema().await.unwrap();
    assert_tuned(tuned).await;
}

async fn assert_tuned(store: ScratchStore) {
    let session = session(&store, &shared("")).await;
    let options = "SELECT array_to_string(reloptions, ',') FROM pg_class WHERE oid = $1::text::regclass";
    let options_of = async |table: &str| session.query_one(options, &[&table]).await.unwrap().get::<_, String>(0);
    assert_eq!(options_of("job").await, "fillfactor=70,autovacuum_enabled=off");
    assert_eq!(options_of("job_run").await, "fillfactor=50");
    store.database().tear_down().await.unwrap();
    assert_eq!(options_of("job").await, "fillfactor=70");
    store.remove().await.unwrap();
}

/// Pages of ten jobs are read without reading all jobs, as Lookout's own statements do, and have the same jobs.
async fn indexed_pages(layout: Layout) {
    let store = store(&shared(layout.parameter)).await;
    let database = store.database();
    let params = json!({
        "queueIdx": 0, "jobSetIdx": 0, "queueName": "queue", "jobSetName": "js", "nJobs": JOBS, "chunkSize": 5000,
        "jobAgeDays": [0, 7], "referenceTime": "2026-01-01T00:00:00Z",
    });
    let jobs = serde_json::from_value::<HistoricalJobsParams>(params).unwrap().try_into().unwrap();
    database.populate_historical_jobs(&jobs, &|_| ()).await.unwrap();
    let active = (0..ACTIVE_JOBS).map(|number| insert(&format!("active-{number}"), "js"));
    database.execute_ingestion_query_batch(&batch(active.chain([insert("other", "js2")]))).await.unwrap();
    database.analyse().await.unwrap();
    let lookouts = handle(&store, &shared(&with_key(layout.parameter, "queries=lookout"))).await;

    let all = JobQuery::new().limit(10);
    let ordered = [
        JobOrderKey::JobId,
        JobOrderKey::Queue,
        JobOrderKey::JobSet,
        JobOrderKey::State,
        JobOrderKey::Submitted,
        JobOrderKey::LastTransitionTime,
    ]
    .into_iter()
    .flat_map(|key| [all.clone(), all.clone().in_active_job_sets()].map(|query| (key, query)));
    for (key, query) in ordered {
        for direction in [Direction::Ascending, Direction::Descending] {
            let query = query.clone().order_by(key, direction);
            let (rows, plan) = rows_read(&**database, &query).await;
            assert!(rows < 500, "{query:?} reads {rows} rows: {plan}");
            let sort_keys = |jobs: Vec<Job>| jobs.iter().map(|job| sort_key(job, key)).collect::<Vec<_>>();
            let page = sort_keys(database.get_jobs(&query).await.unwrap());
            assert_eq!(page, sort_keys(lookouts.get_jobs(&query).await.unwrap()), "{query:?}");
        }
    }
    for key in [JobOrderKey::JobSet, JobOrderKey::LastTransitionTime] {
        let (rows, plan) = rows_read(&*lookouts, &all.clone().order_by(key, Direction::Ascending)).await;
        assert!(rows >= JOBS, "{key:?} reads {rows} rows: {plan}");
    }
    let groups = GroupQuery::by(GroupField::JobSet).in_active_job_sets().count_states();
    let groups = groups.order_by(GroupOrderKey::Name, Direction::Descending);
    assert_eq!(database.get_job_groups(&groups).await.unwrap(), lookouts.get_job_groups(&groups).await.unwrap());
    lookouts.close().await.unwrap();
    store.remove().await.unwrap();
}

fn with_key(parameter: &str, key: &str) -> String {
    if parameter.is_empty() { key.to_owned() } else { format!("{parameter}&{key}") }
}

fn sort_key(job: &Job, key: JobOrderKey) -> String {
    match key {
        JobOrderKey::JobId => job.job_id.to_string(),
        JobOrderKey::Queue => job.queue.to_string(),
        JobOrderKey::JobSet => job.job_set.to_string(),
        JobOrderKey::State => job.state.to_string(),
        JobOrderKey::Submitted => job.submitted.to_string(),
        JobOrderKey::LastTransitionTime => job.last_transition_time.floor_seconds().to_string(),
    }
}

/// The largest number of rows that a node of the plan of a page has returned, with the plan.
async fn rows_read(database: &dyn Database, query: &JobQuery) -> (usize, String) {
    let mut explanation = database.explain(&ReadCall::Jobs(query.clone())).await.unwrap();
    let plan = explanation.statements.pop().unwrap().plan;
    let number = |text: &str| text.split([' ', ')']).next().unwrap().parse::<f64>().unwrap();
    let rows = plan.lines().filter_map(|line| {
        let (_, actual) = line.split_once("(actual ")?;
        let (_, rows) = actual.split_once("rows=")?;
        let (_, loops) = actual.split_once("loops=")?;
        Some(number(rows) * number(loops))
    });
    (rows.fold(0.0, f64::max) as usize, plan)
}

/// In English, "a" precedes "B", and "_" precedes both.
async fn other_locale() {
    let server = Server::postgres("locale", "");
    let (session, connection) = tokio_postgres::connect(server.address(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let version = session.query_one("SELECT current_setting('server_version_num')::integer", &[]).await.unwrap();
    // Before version 15, ICU has collations of columns, but not of databases.
    let (create, collation) = match version.get::<_, i32>(0) {
        ..150_000 => ("CREATE DATABASE english", "en-US-x-icu"),
        _ => ("CREATE DATABASE english LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0", "default"),
    };
    session.batch_execute(create).await.unwrap();

    let english = with(server.address(), "dbname=english");
    let store = store(&english).await;
    assert_byte_order(&**store.database()).await;
    store.remove().await.unwrap();

    // Lookout's own tables have the collation of the database.
    let store = self::store(&english).await;
    self::session(&store, &english).await.batch_execute(&LOOKOUTS_COLLATION.replace("{}", collation)).await.unwrap();
    let adopted = handle(&store, &with(&english, "adopt=true")).await;
    assert_byte_order(&*adopted).await;
    adopted.close().await.unwrap();
    store.remove().await.unwrap();
}

async fn assert_byte_order(database: &dyn Database) {
    let texts = ["B", "_", "a", "é"];
    let inserts = texts.map(|text| {
        let IngestionQuery::InsertJob(mut query) = insert(text, text) else { unreachable!() };
        query.job.queue = text.to_owned();
        query.job.namespace = Some(text.to_owned());
        query.job.annotations = [("key".to_owned(), text.to_owned())].into();
        query.into()
    });
    database.execute_ingestion_query_batch(&batch(inserts)).await.unwrap();
    for key in [JobOrderKey::JobId, JobOrderKey::Queue, JobOrderKey::JobSet] {
        let found = |jobs: Vec<Job>| jobs.into_iter().map(|job| job.job_id).collect::<Vec<_>>();
        let ascending = JobQuery::new().order_by(key, Direction::Ascending);
        assert_eq!(found(database.get_jobs(&ascending).await.unwrap()), texts, "{key:?}");
        let mut descending = database.get_jobs(&ascending.order_by(key, Direction::Descending)).await.unwrap();
        descending.reverse();
        assert_eq!(found(descending), texts, "{key:?}");
    }
    let fields = [GroupField::Queue, GroupField::JobSet, GroupField::Namespace].map(GroupQuery::by);
    for query in fields.into_iter().chain([GroupQuery::by_annotation("key")]) {
        let query = query.order_by(GroupOrderKey::Name, Direction::Descending);
        let groups = database.get_job_groups(&query).await.unwrap();
        let found: Vec<_> = groups.into_iter().rev().map(|group| group.name).collect();
        assert_eq!(found, texts, "{query:?}");
    }
}

async fn hosts() {
    let (primary, standby) = (Server::postgres("primary", ""), Server::postgres("standby", ""));
    let data = Path::new(standby.exported("BROADSIDE_POSTGRES_CA")).parent().unwrap();
    let store = connect(standby.address()).await.unwrap();
    store.initialise_schema().await.unwrap();
    store.execute_ingestion_query_batch(&batch([insert("a", "js")])).await.unwrap();
    let rows = exported(&*store).await;
    store.close().await.unwrap();
    standby.kill();
    std::fs::write(data.join("standby.signal"), "").unwrap();
    standby.resume();
    // It accepts connections and does not answer.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hung = hung.local_addr().unwrap().to_string();
    let (session, connection) = tokio_postgres::connect(primary.address(), NoTls).await.unwrap();
    tokio::spawn(connection);

    let host = |server: &Server| server.address().split(['@', '/']).nth(3).unwrap().to_owned();
    let (primary_host, standby_host) = (host(&primary), host(&standby));
    let connect_to = async |hosts: &[&String], attrs: &str| {
        let hosts: Vec<_> = hosts.iter().map(|host| host.as_str()).collect();
        let keys = "sslmode=disable&connect_timeout=2&application_name=chosen";
        let hosts = hosts.join(",");
        connect(&format!("postgres://broadside:broadside@{hosts}/postgres?{keys}&target_session_attrs={attrs}")).await
    };
    let is_on_primary = async |hosts: &[&String], attrs: &str| {
        let database = connect_to(hosts, attrs).await.unwrap();
        let count = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'chosen'";
        let found: bool = session.query_one(count, &[]).await.unwrap().get(0);
        database.close().await.unwrap();
        until(&session, &count.replace("> 0", "= 0")).await;
        found
    };
    for (attrs, chosen) in [
        ("any", false),
        ("read-write", true),
        ("primary", true),
        ("read-only", false),
        ("standby", false),
        ("prefer-standby", false),
    ] {
        assert_eq!(is_on_primary(&[&standby_host, &primary_host], attrs).await, chosen, "{attrs}");
        let chosen = chosen || attrs == "any";
        assert_eq!(is_on_primary(&[&primary_host, &standby_host], attrs).await, chosen, "{attrs}");
    }
    assert!(is_on_primary(&[&primary_host], "prefer-standby").await);
    let reader = connect_to(&[&standby_host], "standby").await.unwrap();
    assert_eq!(exported(&*reader).await, rows);
    reader.close().await.unwrap();
    assert!(is_on_primary(&[&hung, &primary_host], "any").await);
    session.batch_execute("ALTER ROLE broadside SET default_transaction_read_only = on").await.unwrap();
    assert!(is_on_primary(&[&standby_host, &primary_host], "primary").await);
    let absent = [(&primary_host, "standby"), (&primary_host, "read-write"), (&standby_host, "primary")];
    let refused = absent.map(async |(host, attrs)| connect_to(&[host], attrs).await.unwrap_err());
    for error in futures::future::join_all(refused).await {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.message().contains("target_session_attrs"), "{error:?}");
    }
}

async fn client_certificates() {
    let server = Server::postgres("certificates", "");
    let (session, connection) = tokio_postgres::connect(server.address(), NoTls).await.unwrap();
    tokio::spawn(connection);
    session.batch_execute("CREATE ROLE certified LOGIN").await.unwrap();
    let data = Path::new(server.exported("BROADSIDE_POSTGRES_CA")).parent().unwrap();
    let address = server.address().replace("broadside:broadside", "certified").replace("=disable", "=require");
    let file = |name: &str| data.join(name).display().to_string();
    let with_key = |key: &str| with(&address, &format!("sslcert={}&sslkey={key}", file("client.crt")));
    let encrypted = with_key(&file("client-encrypted.key"));
    for accepted in [with_key(&file("client.key")), with(&encrypted, "sslpassword=hunter2")] {
        connect(&accepted).await.unwrap().close().await.unwrap();
    }
    let exposed = file("exposed.key");
    std::fs::copy(file("client.key"), &exposed).unwrap();
    std::fs::set_permissions(&exposed, std::fs::Permissions::from_mode(0o644)).unwrap();
    for (refused, kind) in [
        (address.clone(), ErrorKind::Backend),
        (encrypted.clone(), ErrorKind::InvalidArgument),
        (with(&encrypted, "sslpassword=wrong2"), ErrorKind::InvalidArgument),
        (with_key(&exposed), ErrorKind::InvalidArgument),
        (with_key(&file("client.crt")), ErrorKind::InvalidArgument),
        (with_key(&file("server.key")), ErrorKind::InvalidArgument),
        (with(&address, &format!("sslcert={}", file("client.crt"))), ErrorKind::InvalidArgument),
    ] {
        let error = connect(&refused).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(!format!("{error:?}").contains("wrong2"), "{error:?}");
    }
}
