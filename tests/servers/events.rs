//! The tracing events of the server backends: calls, retries, reconnections, dropped and recreated indexes. None
//! contains a secret.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use crate::support::backends::Backend;
use crate::support::harness::server_trial;
use crate::support::jobs::all_jobs;
use crate::support::postgres::{batch, insert, priority, until_blocked};
use crate::support::server::{Server, with};
use broadside::{Database, DatabaseConfig, ErrorKind, HistoricalJobs, HistoricalJobsParams, SystemClock};
use libtest_mimic::Trial;
use parking_lot::Mutex;
use serde_json::json;
use tokio_postgres::NoTls;

/// Part of every secret of this test.
const SECRET: &str = "hunter";
/// The minimum number of jobs for which PostgreSQL drops indexes.
const BULK: usize = 10_000;

/// The output of all events of a test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }

    /// Whether an event of a target has been logged.
    fn has(&self, target: &str, text: &str) -> bool {
        self.text().lines().any(|line| line.contains(target) && line.contains(text))
    }

    async fn until(&self, target: &str, text: &str) {
        while !self.has(target, text) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn assert_has(&self, target: &str, texts: &[&str]) {
        for text in texts {
            assert!(self.has(target, text), "no event of {target} contains {text:?}");
        }
        let secret = self.text().lines().find(|line| line.contains(SECRET)).map(str::to_owned);
        assert_eq!(secret, None);
    }
}

pub fn trials() -> Vec<Trial> {
    const NAME: &str = "events-contain-no-secret";
    vec![
        server_trial(Backend::POSTGRES, NAME, || logging(postgres)),
        server_trial(Backend::CLICKHOUSE, NAME, || logging(clickhouse)),
    ]
}

/// Executes a test on a runtime of its own, whose threads log their events.
async fn logging<F: Future<Output = ()>>(test: impl FnOnce(Log) -> F + Send + 'static) {
    let run = move || {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::TRACE);
        let dispatch = tracing::Dispatch::new(subscriber.with_writer(move || writer.clone()).finish());
        // With only one subscriber, an event that another test emits first would be disabled for all threads.
        let _other = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
        let of_thread = dispatch.clone();
        // The guard would end the logging of the thread.
        let log_events = move || std::mem::forget(tracing::dispatcher::set_default(&of_thread));
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().on_thread_start(log_events).build().unwrap();
        tracing::dispatcher::with_default(&dispatch, || runtime.block_on(test(log)));
    };
    tokio::task::spawn_blocking(run).await.unwrap();
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
async fn call_without_server(server: &Server, database: &Arc<dyn Database>, log: &Log, target: &str, repeated: &str) {
    server.kill();
    let call = tokio::spawn({
        let database = database.clone();
        async move { database.execute_ingestion_query_batch(&batch([priority("a", 2)])).await }
    });
    log.until(target, repeated).await;
    server.resume();
    let ended = call.await.unwrap();
    if let Err(error) = ended {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    }
}

async fn postgres(log: Log) {
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
    log.until(TARGET, "repeats the call").await;
    transaction.commit().await.unwrap();
    call.await.unwrap().unwrap();

    call_without_server(&server, database, &log, TARGET, "reconnects").await;
    let (session, connection) = tokio_postgres::connect(server.address(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let odd = format!("UPDATE {}.job_run SET job_run_state = 13 WHERE run_id LIKE '%0000%'", store.name().unwrap());
    let changed = session.execute(&odd, &[]).await.unwrap();
    assert_eq!(all_jobs(&**database).await.len(), BULK + 1);
    database.get_job_spec("a").await.unwrap_err();
    store.remove().await.unwrap();
    // The first such value, and when the handle is dropped the number of all.
    let column = r#"column="job_run.job_run_state""#;
    let warnings = log.text().lines().filter(|line| line.contains(column)).count();
    assert!(warnings == 2 && log.has(column, "id=\"0000"), "{warnings}");
    assert!(log.has(column, &format!("values={changed}")));
    let expected = [
        "operation=ExecuteIngestionQueryBatch",
        "connected",
        "repeats the call",
        "reconnects",
        "drops the indexes",
        "recreates an index",
        "removed a scratch store",
    ];
    log.assert_has(TARGET, &expected);
    log.assert_has("backend=postgres", &["done", "failed"]);
}

async fn clickhouse(log: Log) {
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
    call_without_server(&server, database, &log, TARGET, "repeats a failed request").await;
    assert_eq!(all_jobs(&**database).await.len(), 1);
    database.get_job_spec("a").await.unwrap_err();
    store.remove().await.unwrap();
    log.assert_has(TARGET, &["operation=ExecuteIngestionQueryBatch", "repeats a failed request", "a request failed"]);
    log.assert_has("backend=clickhouse", &["done", "failed"]);
}
