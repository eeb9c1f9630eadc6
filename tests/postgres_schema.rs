//! The schema: equality with the tables of Lookout's migrations, concurrent initialisation, layouts, tuning and
//! locales.

mod support;

use std::future::Future;
use std::sync::Arc;

use broadside::postgres::PostgresConfig;
use broadside::query::{Direction, GroupField, GroupOrderKey};
use broadside::{DatabaseConfig, ErrorKind, GroupQuery, IngestionQuery, Outcome, ScratchStore, SystemClock};
use libtest_mimic::{Arguments, Trial};
use support::backends::Backend;
use support::harness::server_trial;
use support::jobs::all_jobs;
use support::postgres::{
    LAYOUTS, Layout, batch, describe, errors, handle, insert, session, shared, store, succeeded, try_handle,
};
use support::server::{Server, with};
use tokio_postgres::NoTls;

const TUNE_JOB: &str = "ALTER TABLE job SET (autovacuum_enabled = off)";
const TUNE_RUN: &str = "ALTER TABLE job_run SET (fillfactor = 50)";
const REVERT: &str = "ALTER TABLE job RESET (autovacuum_enabled)";
const TABLES: [&str; 5] = ["job", "job_run", "job_spec", "job_error", "job_deduplication"];

fn main() {
    let arguments = Arguments::from_args();
    let trials = vec![
        trial("the-schema-is-lookouts", schema_is_lookouts),
        trial("many-handles-initialise-a-schema-concurrently", initialise_at_once),
        trial("a-schema-is-used-only-in-its-layout", kept_layout),
        trial("tuning-is-applied-and-reverted", tuning),
        trial("strings-are-ordered-by-bytes-in-any-locale", other_locale),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    server_trial(Backend::POSTGRES, name, test)
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

/// In English, "a" precedes "B", and "_" precedes both.
async fn other_locale() {
    let server = Server::postgres("locale", "");
    let (session, connection) = tokio_postgres::connect(server.address(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let create = "CREATE DATABASE english LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0";
    session.batch_execute(create).await.unwrap();

    let store = store(&with(server.address(), "dbname=english")).await;
    let texts = ["B", "_", "a", "é"];
    let inserts = texts.map(|text| {
        let IngestionQuery::InsertJob(mut query) = insert(text, text) else { unreachable!() };
        query.job.annotations = [("key".to_owned(), text.to_owned())].into();
        query.into()
    });
    store.database().execute_ingestion_query_batch(&batch(inserts)).await.unwrap();
    let found: Vec<_> = all_jobs(&**store.database()).await.into_iter().map(|job| job.job_id).collect();
    assert_eq!(found, texts);
    for query in [GroupQuery::by(GroupField::JobSet), GroupQuery::by_annotation("key")] {
        let query = query.order_by(GroupOrderKey::Name, Direction::Descending);
        let groups = store.database().get_job_groups(&query).await.unwrap();
        let found: Vec<_> = groups.into_iter().rev().map(|group| group.name).collect();
        assert_eq!(found, texts);
    }
    store.remove().await.unwrap();
}
