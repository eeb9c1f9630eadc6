//! Rights: what a user may read and execute, and for how long it may wait.

use std::time::Duration;

use broadside::query::Annotation;
use broadside::{DatabaseConfig, ErrorKind, JobQuery, Outcome};
use libtest_mimic::Trial;

use super::trial;
use crate::support::jobs::all_jobs;
use crate::support::postgres::{LAYOUTS, Layout};
use crate::support::postgres::{
    batch, describe, handle, insert, job_set, priority, schema, session, shared, store, try_handle, until_blocked,
};
use crate::support::server::with;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("a-marker-that-the-user-may-not-read-is-no-reason-to-adopt", hidden_marker),
        trial("a-schema-that-the-user-may-not-use-is-named", hidden_schema),
        trial("no-setting-of-a-role-hides-jobs", fuzzy_searches),
        trial("a-removal-does-not-wait-for-a-reader-forever", blocked_removal),
        trial("a-split-does-not-wait-for-a-reader-forever", blocked_split),
        trial("no-statement-timeout-overrides-that-of-the-role", role_timeout),
    ];
    for layout in LAYOUTS {
        let name = |test: &str| format!("{test}::{}", layout.name);
        trials.push(trial(&name("no-text-of-a-table-is-executed"), move || recorded_index(layout)));
        trials.push(trial(&name("tear-down-does-not-wait-for-a-reader-forever"), move || blocked_tear_down(layout)));
    }
    trials
}

async fn hidden_marker() {
    let store = store(&shared("")).await;
    let role = format!("{}_reader", schema(&store));
    let session = session(&store, &shared("")).await;
    let grants = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'reader'; GRANT USAGE, CREATE ON SCHEMA {0} TO {role};
        GRANT SELECT ON job, job_run, job_spec, job_error TO {role}",
        schema(&store)
    );
    session.batch_execute(&grants).await.unwrap();
    let database = handle(&store, &shared("").replace("broadside:broadside@", &format!("{role}:reader@"))).await;
    assert!(all_jobs(&*database).await.is_empty());
    let error = database.initialise_schema().await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongStore, Outcome::NotApplied), "{error:?}");
    assert!(error.message().contains("grant SELECT") && !error.message().contains("adopt"), "{error:?}");
    database.close().await.unwrap();
    store.remove().await.unwrap();
    session.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
}

async fn hidden_schema() {
    let store = store(&shared("")).await;
    let role = format!("{}_stranger", schema(&store));
    let session = session(&store, &shared("")).await;
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'reader'; GRANT SELECT ON broadside_store, job TO {role}");
    session.batch_execute(&create).await.unwrap();
    let address = shared("").replace("broadside:broadside@", &format!("{role}:reader@"));
    let error = try_handle(&store, &address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
    assert!(error.message().ends_with("grant USAGE on it"), "{error:?}");
    store.remove().await.unwrap();
    session.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
}

/// A limit of searches of GIN indexes makes their results random parts.
async fn fuzzy_searches() {
    let store = store(&shared("")).await;
    let role = format!("{}_fuzzy", schema(&store));
    let jobs = (0..3_000).map(|number| insert(&format!("{number:04}"), "js"));
    store.database().execute_ingestion_query_batch(&batch(jobs)).await.unwrap();
    let session = session(&store, &shared("")).await;
    let create = format!("VACUUM job; CREATE ROLE {role} LOGIN PASSWORD 'fuzzy' IN ROLE broadside");
    for statement in create.split("; ") {
        session.batch_execute(statement).await.unwrap();
    }
    let settings = "gin_fuzzy_search_limit = 10; enable_seqscan = off; enable_indexscan = off";
    for setting in settings.split("; ") {
        session.batch_execute(&format!("ALTER ROLE {role} SET {setting}")).await.unwrap();
    }
    let reader = handle(&store, &shared("").replace("broadside:broadside@", &format!("{role}:fuzzy@"))).await;
    let query = JobQuery::new().filter(Annotation("key").equals("value"));
    assert_eq!(reader.get_jobs(&query).await.unwrap().len(), 3_000);
    reader.close().await.unwrap();
    store.remove().await.unwrap();
    session.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
}

async fn blocked_removal() {
    let store = store(&shared("")).await;
    let (name, session) = (schema(&store), session(&store, &shared("")).await);
    session.batch_execute("BEGIN; SELECT FROM job").await.unwrap();
    let config: DatabaseConfig = shared("").parse().unwrap();
    let removal = tokio::time::timeout(Duration::from_secs(60), config.remove_scratch(&name));
    let error = removal.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    session.batch_execute("ROLLBACK").await.unwrap();
    store.remove().await.unwrap();
}

async fn blocked_split() {
    let store = store(&shared("")).await;
    let session = session(&store, &shared("")).await;
    session.batch_execute("BEGIN; SELECT FROM job").await.unwrap();
    let split = handle(&store, &shared("hot_cold_split=true")).await;
    let error = tokio::time::timeout(Duration::from_secs(60), split.initialise_schema()).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied), "{error:?}");
    session.batch_execute("ROLLBACK").await.unwrap();
    split.initialise_schema().await.unwrap();
    store.remove().await.unwrap();
}

async fn role_timeout() {
    let store = store(&shared("")).await;
    store.database().execute_ingestion_query_batch(&batch([insert("a", "js")])).await.unwrap();
    let role = format!("{}_hasty", schema(&store));
    let (mut holder, watcher) = (session(&store, &shared("")).await, session(&store, &shared("")).await);
    let create = format!("CREATE ROLE {role} LOGIN PASSWORD 'hasty' IN ROLE broadside");
    watcher.batch_execute(&format!("{create}; ALTER ROLE {role} SET statement_timeout = '300ms'")).await.unwrap();
    let address = shared("").replace("broadside:broadside@", &format!("{role}:hasty@"));
    let hasty = handle(&store, &address).await;
    let patient = handle(&store, &with(&address, "statement_timeout=0&application_name=patient")).await;
    let transaction = holder.transaction().await.unwrap();
    transaction.execute("UPDATE job SET gpu = 7", &[]).await.unwrap();
    let call = tokio::spawn({
        let patient = patient.clone();
        async move { patient.execute_ingestion_query_batch(&batch([priority("a", 1)])).await }
    });
    until_blocked(&watcher, "patient").await;
    let error = hasty.execute_ingestion_query_batch(&batch([priority("a", 2)])).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied), "{error:?}");
    transaction.commit().await.unwrap();
    call.await.unwrap().unwrap();
    for database in [hasty, patient] {
        database.close().await.unwrap();
    }
    store.remove().await.unwrap();
    let terminate = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    watcher.batch_execute(&format!("{terminate}; DROP ROLE {role}")).await.unwrap();
}

/// Whoever may write the table of the dropped indexes cannot make another user execute a statement.
async fn recorded_index(layout: Layout) {
    let store = store(&shared(layout.parameter)).await;
    let session = session(&store, &shared("")).await;
    let (table, index) = match layout.name {
        "hot-cold" => ("job_historical", "idx_job_historical_state"),
        _ => ("job", "idx_job_state"),
    };
    let before = describe(&session, &[table, "job_run"]).await;
    assert!(before.contains(index), "{before}");
    let record = format!(
        "DROP INDEX {index}, idx_job_run_node;
        INSERT INTO broadside_deferred_index VALUES ('other', 'CREATE TABLE executed ()'),
            ('{index}', 'CREATE TABLE executed ()'), ('idx_job_run_node', ''), ('idx_job_historical_queue_namespace', '')
        ON CONFLICT DO NOTHING"
    );
    session.batch_execute(&record).await.unwrap();
    store.database().initialise_schema().await.unwrap();
    assert_eq!(describe(&session, &[table, "job_run"]).await, before);
    let executed = session.query_one("SELECT to_regclass('executed') IS NULL", &[]).await.unwrap();
    assert!(executed.get::<_, bool>(0));
    store.remove().await.unwrap();
}

async fn blocked_tear_down(layout: Layout) {
    let store = store(&shared(layout.parameter)).await;
    let database = store.database();
    database.execute_ingestion_query_batch(&job_set("js")).await.unwrap();
    let session = session(&store, &shared("")).await;
    session.batch_execute("BEGIN; SELECT FROM job").await.unwrap();
    let error = tokio::time::timeout(Duration::from_secs(60), database.tear_down()).await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied), "{error:?}");
    assert!(!all_jobs(&**database).await.is_empty());
    session.batch_execute("ROLLBACK").await.unwrap();
    database.tear_down().await.unwrap();
    assert!(all_jobs(&**database).await.is_empty());
    store.remove().await.unwrap();
}
