//! The tracing events of the server backends: calls, retries, reconnections, dropped and recreated indexes. None
//! contains a secret.

mod support;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use broadside::{Database, DatabaseConfig, ErrorKind, HistoricalJobs, HistoricalJobsParams, SystemClock};
use libtest_mimic::Arguments;
use parking_lot::Mutex;
use serde_json::json;
use support::backends::Backend;
use support::harness::server_trial;
use support::jobs::all_jobs;
use support::postgres::{batch, insert, priority, until_blocked};
use support::server::{Server, with};
use tokio_postgres::NoTls;

/// Part of every secret of this test.
const SECRET: &str = "hunter";
/// The minimum number of jobs for which PostgreSQL drops indexes.
const BULK: usize = 10_000;

/// The output of all events of all tests.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn main() {
    tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::TRACE).with_writer(|| Log).init();
    let trials = vec![
        server_trial(Backend::POSTGRES, "events-contain-no-secret", postgres),
        server_trial(Backend::CLICKHOUSE, "events-contain-no-secret", clickhouse),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}

fn logged() -> String {
    String::from_utf8_lossy(&LOG.lock()).into_owned()
}

/// Whether an event of a target has been logged.
fn has(target: &str, text: &str) -> bool {
    logged().lines().any(|line| line.contains(target) && line.contains(text))
}

async fn until_logged(target: &str, text: &str) {
    while !has(target, text) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn assert_logged(target: &str, texts: &[&str]) {
    for text in texts {
        assert!(has(target, text), "no event of {target} contains {text:?}");
    }
    let secret = logged().lines().find(|line| line.contains(SECRET)).map(str::to_owned);
    assert_eq!(secret, None);
}

async fn refused(address: &str) {
    let error = address.parse::<DatabaseConfig>().unwrap().connect(Arc::new(SystemClock)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");
}

fn historical() -> HistoricalJobs {
    let params: HistoricalJobsParams = serde_json::from_value(json!({
        "queueIdx": 0, "jobSetIdx": 0, "queueName": "q", "jobSetName": "s", "nJobs": BULK, "chunkSize": BULK,
        "jobAgeDays": [0], "referenceTime": "2026-01-01T00:00:00Z",
    }))
    .unwrap();
    params.try_into().unwrap()
}

/// A call that starts while the server is down, and ends after it has been started again.
async fn call_without_server(server: &Server, database: &Arc<dyn Database>, target: &str, repeated: &str) {
    server.kill();
    let call = tokio::spawn({
        let database = database.clone();
        async move { database.execute_ingestion_query_batch(&batch([priority("a", 2)])).await }
    });
    until_logged(target, repeated).await;
    server.resume();
    let ended = call.await.unwrap();
    if let Err(error) = ended {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
}

async fn postgres() {
    const TARGET: &str = "broadside::postgres";
    let server = Server::postgres("events", "");
    let (mut session, connection) = tokio_postgres::connect(server.address(), NoTls).await.unwrap();
    tokio::spawn(connection);
    session.batch_execute("CREATE ROLE traced SUPERUSER LOGIN PASSWORD 'hunter2'").await.unwrap();
    let address = |password: &str| server.address().replace("broadside:broadside@", &format!("traced:{password}@"));
    refused(&address("hunter3")).await;
    refused(&with(&address("hunter2"), "dbname=hunter4")).await;

    let address = with(&address("hunter2"), "connect_timeout=60&application_name=events");
    let config: DatabaseConfig = address.parse().unwrap();
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    let database = store.database();
    database.initialise_schema().await.unwrap();
    database.execute_ingestion_query_batch(&batch([insert("a", "js")])).await.unwrap();
    database.populate_historical_jobs(&historical(), &|_| ()).await.unwrap();

    let transaction = session.transaction().await.unwrap();
    let lock = format!("UPDATE {}.job SET gpu = 7 WHERE job_id = 'a'", store.name().unwrap());
    transaction.batch_execute(&lock).await.unwrap();
    let call = tokio::spawn({
        let database = database.clone();
        async move { database.execute_ingestion_query_batch(&batch([priority("a", 1)])).await }
    });
    until_blocked(transaction.client(), "events").await;
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'events'";
    transaction.batch_execute(end).await.unwrap();
    until_logged(TARGET, "repeats the call").await;
    transaction.commit().await.unwrap();
    call.await.unwrap().unwrap();

    call_without_server(&server, database, TARGET, "reconnects").await;
    let (session, connection) = tokio_postgres::connect(server.address(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let odd = format!("UPDATE {}.job_run SET job_run_state = 13 WHERE run_id LIKE '%0000%'", store.name().unwrap());
    let changed = session.execute(&odd, &[]).await.unwrap();
    assert_eq!(all_jobs(&**database).await.len(), BULK + 1);
    database.get_job_spec("a").await.unwrap_err();
    store.remove().await.unwrap();
    // The first such value, and when the handle is dropped the number of all.
    let column = r#"column="job_run.job_run_state""#;
    let warnings = logged().lines().filter(|line| line.contains(column)).count();
    assert!(warnings == 2 && has(column, "id=\"0000"), "{warnings}");
    assert!(has(column, &format!("values={changed}")));
    let expected = [
        "operation=ExecuteIngestionQueryBatch",
        "connected",
        "repeats the call",
        "reconnects",
        "drops the indexes",
        "recreates an index",
        "removed a scratch store",
    ];
    assert_logged(TARGET, &expected);
    assert_logged("backend=postgres", &["done", "failed"]);
}

async fn clickhouse() {
    const TARGET: &str = "broadside::clickhouse";
    let server = Server::clickhouse("events", "hunter2");
    let address = |password: &str| server.address().replace("//", &format!("//default:{password}@"));
    refused(&address("hunter3")).await;
    refused(&with(&address("hunter2"), "setting.no_such_setting=hunter4")).await;

    let store = address("hunter2").parse::<DatabaseConfig>().unwrap();
    let store = store.create_scratch(Arc::new(SystemClock)).await.unwrap();
    let database = store.database();
    database.initialise_schema().await.unwrap();
    database.execute_ingestion_query_batch(&batch([insert("a", "js")])).await.unwrap();
    call_without_server(&server, database, TARGET, "repeats a failed request").await;
    assert_eq!(all_jobs(&**database).await.len(), 1);
    database.get_job_spec("a").await.unwrap_err();
    store.remove().await.unwrap();
    assert_logged(TARGET, &["operation=ExecuteIngestionQueryBatch", "repeats a failed request", "a request failed"]);
    assert_logged("backend=clickhouse", &["done", "failed"]);
}
