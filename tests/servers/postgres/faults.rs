//! Faults of a PostgreSQL server: it is killed, has no free connections, ends connections, and has lock conflicts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::trial;
use crate::support::jobs::all_jobs;
use crate::support::postgres::{
    JOBS, LAYOUTS, Layout, batch, handle, insert, job_set, names, preempted, priority, running, session, shared, store,
    succeeded, until, until_blocked,
};
use crate::support::server::{Server, with};
use broadside::query::{Direction, GroupField, GroupOrderKey};
use broadside::scenario::Response;
use broadside::{Database, DatabaseConfig, Error, ErrorKind, GroupQuery, JobState, Outcome, SystemClock, Timestamp};
use libtest_mimic::Trial;
use tokio_postgres::NoTls;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("a-killed-server-loses-no-batch-and-no-part-of-one", killed_server),
        trial("a-server-that-is-down-is-unavailable-until-it-is-back", down_server),
        trial("terminated-backends-are-replaced", terminated_backends),
        trial("a-call-waits-for-a-full-server", full_server),
        trial("a-connection-waits-for-locks-of-the-server", full_lock_table),
        trial("dropped-calls-leave-no-transaction", dropped_calls),
        trial("calls-share-a-connection", shared_connection),
        trial("a-deadlock-is-retried", deadlock),
        trial("a-slow-statement-times-out", statement_timeout),
        trial("a-busy-pool-is-unavailable", busy_pool),
        trial("a-rejected-password-is-not-shown", wrong_password),
        trial("tls-follows-sslmode", tls),
    ];
    for layout in LAYOUTS {
        let name = |test: &str| format!("{test}::{}", layout.name);
        trials.push(trial(&name("a-blocked-update-applies-to-the-new-row"), move || contended_job(layout)));
        trials.push(trial(&name("batches-in-opposite-orders-do-not-deadlock"), move || opposite_orders(layout)));
    }
    trials
}

/// The names of the job sets. Asserts that each is complete.
pub async fn whole_job_sets(database: &dyn Database) -> Vec<String> {
    let query = GroupQuery::by(GroupField::JobSet).order_by(GroupOrderKey::Name, Direction::Ascending);
    let groups = database.get_job_groups(&query).await.unwrap();
    assert!(groups.iter().all(|group| group.count == JOBS as u64), "a batch is incomplete: {groups:?}");
    assert!(all_jobs(database).await.iter().all(|job| job.runs.len() == 1), "a batch is incomplete");
    groups.into_iter().map(|group| group.name.into()).collect()
}

/// Writes job sets one after another and counts them.
fn write_job_sets(database: Arc<dyn Database>, count: usize) -> (Arc<AtomicUsize>, tokio::task::JoinHandle<()>) {
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let writer = tokio::spawn(async move {
        for name in names(count) {
            database.execute_ingestion_query_batch(&job_set(&name)).await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (written, writer)
}

async fn until_written(written: &AtomicUsize, count: usize, writer: &tokio::task::JoinHandle<()>) {
    while written.load(Ordering::SeqCst) < count && !writer.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn killed_server() {
    let server = Server::postgres("killed", "");
    let store = store(&with(server.address(), "connect_timeout=60")).await;
    let (written, writer) = write_job_sets(store.database().clone(), 90);
    for kill in 1..=3 {
        until_written(&written, kill * 20, &writer).await;
        server.kill();
        server.resume();
    }
    writer.await.unwrap();
    assert_eq!(whole_job_sets(&**store.database()).await, names(90));
    store.database().close().await.unwrap();
}

async fn down_server() {
    let server = Server::postgres("down", "");
    let store = store(&with(server.address(), "connect_timeout=2")).await;
    let database = store.database();
    database.execute_ingestion_query_batch(&job_set("before")).await.unwrap();
    server.kill();
    let error = database.execute_ingestion_query_batch(&job_set("meanwhile")).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error:?}");
    let error = database.get_job_error("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let shown = Response::from(&error).to_string();
    assert_eq!(shown.matches("error connecting to server").count(), 1, "{shown}");
    assert_eq!(shown.to_lowercase().matches("connection refused").count(), 1, "{shown}");
    let error = store.config().connect(Arc::new(SystemClock)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    server.resume();
    database.execute_ingestion_query_batch(&job_set("after")).await.unwrap();
    assert_eq!(whole_job_sets(&**database).await, ["after", "before"]);
    database.close().await.unwrap();
}

async fn terminated_backends() {
    let address = shared("application_name=terminated");
    let store = store(&address).await;
    let session = session(&store, &shared("")).await;
    let (written, writer) = write_job_sets(store.database().clone(), 60);
    for round in 1..=10 {
        until_written(&written, round * 5, &writer).await;
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'terminated'";
        session.query(sql, &[]).await.unwrap();
    }
    writer.await.unwrap();
    assert_eq!(whole_job_sets(&**store.database()).await, names(60));
    store.remove().await.unwrap();
}

async fn full_server() {
    let limits = "-c max_connections=5 -c superuser_reserved_connections=0 -c max_wal_senders=0";
    let server = Server::postgres("full", limits);
    let store = store(&with(server.address(), "connect_timeout=2&pool_size=1")).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(session(&store, server.address()).await);
    }
    let error = store.config().connect(Arc::new(SystemClock)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    sessions.truncate(1);
    // More concurrent calls than the server has connections: every call succeeds.
    let crowd = handle(&store, &with(server.address(), "connect_timeout=60&pool_size=12")).await;
    let calls = names(40).into_iter().map(|name| {
        let crowd = crowd.clone();
        tokio::spawn(async move { crowd.execute_ingestion_query_batch(&job_set(&name)).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    assert_eq!(whole_job_sets(&*crowd).await, names(40));
    crowd.close().await.unwrap();
    store.database().close().await.unwrap();
}

/// A server whose lock table is full rejects connections. They are retried within the connect timeout.
async fn full_lock_table() {
    let server = Server::postgres("locks", "-c max_locks_per_transaction=10 -c max_connections=20");
    let (client, connection) = tokio_postgres::connect(server.address(), NoTls).await.unwrap();
    tokio::spawn(connection);
    // Unlike the locks of a transaction, those of a session remain after the statement has failed.
    let error = client.batch_execute("SELECT pg_advisory_lock(n) FROM generate_series(1, 100000) AS n").await;
    assert_eq!(error.unwrap_err().code().unwrap().code(), "53200");
    let config = |timeout: &str| with(server.address(), timeout).parse::<DatabaseConfig>().unwrap();
    let clock = Arc::new(SystemClock);
    let (impatient, patient) = (config("connect_timeout=1"), config("connect_timeout=60"));
    let error = impatient.connect(clock.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error:?}");
    assert!(error.message().contains("SQLSTATE 53200"), "{error:?}");
    let waiting = tokio::spawn(async move { patient.connect(clock).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    client.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    waiting.await.unwrap().unwrap();
}

async fn dropped_calls() {
    let address = shared("application_name=dropped&pool_size=1");
    let store = store(&address).await;
    let session = session(&store, &shared("")).await;
    for (number, name) in names(80).into_iter().enumerate() {
        let database = store.database().clone();
        let call = tokio::spawn(async move { database.execute_ingestion_query_batch(&job_set(&name)).await });
        tokio::time::sleep(Duration::from_micros(100 * number as u64)).await;
        call.abort();
        call.await.ok();
    }
    let idle = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity
        WHERE application_name = 'dropped' AND (state <> 'idle' OR backend_xid IS NOT NULL))";
    until(&session, idle).await;
    store.database().execute_ingestion_query_batch(&job_set("last")).await.unwrap();
    assert!(whole_job_sets(&**store.database()).await.contains(&"last".to_owned()));
    store.remove().await.unwrap();
}

async fn shared_connection() {
    let store = store(&shared("application_name=shared-connection")).await;
    let session = session(&store, &shared("")).await;
    for name in names(10) {
        store.database().execute_ingestion_query_batch(&job_set(&name)).await.unwrap();
        whole_job_sets(&**store.database()).await;
    }
    let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'shared-connection'";
    assert_eq!(session.query_one(count, &[]).await.unwrap().get::<_, i64>(0), 1);
    store.remove().await.unwrap();
}

/// An update of a job that another transaction is changing waits for it, and then applies to the new version of the
/// row. A second insert of the job is ignored.
async fn contended_job(layout: Layout) {
    let application = format!("contended-{}", layout.name);
    let store = store(&with(&shared(layout.parameter), &format!("application_name={application}"))).await;
    let mut session = session(&store, &shared("")).await;
    let ids = ["ended", "overridden", "untouched"];
    store.database().execute_ingestion_query_batch(&batch(ids.map(|id| insert(id, "first")))).await.unwrap();

    let transaction = session.transaction().await.unwrap();
    transaction.batch_execute(layout.end_jobs).await.unwrap();
    let second = batch([
        insert("ended", "second"),
        running("ended"),
        priority("ended", 9),
        running("overridden"),
        preempted("overridden"),
        running("untouched"),
    ]);
    let database = store.database().clone();
    let call = tokio::spawn(async move { database.execute_ingestion_query_batch(&second).await });
    until_blocked(transaction.client(), &application).await;
    transaction.commit().await.unwrap();
    call.await.unwrap().unwrap();

    let jobs = all_jobs(&**store.database()).await;
    assert!(jobs.iter().all(|job| job.job_set == "first"));
    let states: Vec<_> = jobs.iter().map(|job| (job.state, job.priority, job.last_active_run_id.as_deref())).collect();
    let expected =
        [(JobState::Succeeded, 0, None), (JobState::Preempted, 0, None), (JobState::Running, 0, Some("run"))];
    assert_eq!(states, expected);
    assert_eq!(jobs[0].last_transition_time, Timestamp::from_seconds(0));
    assert_eq!(jobs[1].last_transition_time, Timestamp::from_seconds(4));
    store.remove().await.unwrap();
}

/// One handle ends the jobs while another sets them running in the opposite order.
async fn opposite_orders(layout: Layout) {
    let address = shared(layout.parameter);
    let store = store(&address).await;
    let database = store.database();
    let other = handle(&store, &address).await;
    for round in 0..20 {
        let ids: Vec<String> = (0..60).map(|job| format!("{round:02}-{job:02}")).collect();
        database.execute_ingestion_query_batch(&batch(ids.iter().map(|id| insert(id, "js")))).await.unwrap();
        let ending = batch(ids.iter().map(|id| succeeded(id)));
        let starting = batch(ids.iter().rev().map(|id| running(id)));
        let calls = tokio::join!(
            database.execute_ingestion_query_batch(&ending),
            other.execute_ingestion_query_batch(&starting),
        );
        calls.0.and(calls.1).unwrap();
    }
    let jobs = all_jobs(&**database).await;
    assert_eq!(jobs.len(), 20 * 60);
    assert!(jobs.iter().all(|job| job.state == JobState::Succeeded));
    assert!(jobs.iter().all(|job| job.last_transition_time == Timestamp::from_seconds(3)));
    other.close().await.unwrap();
    store.remove().await.unwrap();
}

/// A batch that the server aborts because of a deadlock is retried.
async fn deadlock() {
    let store = store(&shared("application_name=deadlocked")).await;
    let database = store.database();
    let (mut session, watcher) = (session(&store, &shared("")).await, session(&store, &shared("")).await);
    database.execute_ingestion_query_batch(&batch([insert("a", "js"), insert("b", "js")])).await.unwrap();

    let transaction = session.transaction().await.unwrap();
    // This transaction never checks for deadlocks, so the batch is aborted instead.
    transaction.batch_execute("SET LOCAL deadlock_timeout = '1h'").await.unwrap();
    transaction.execute("UPDATE job SET gpu = 7 WHERE job_id = 'b'", &[]).await.unwrap();
    let update = batch([priority("a", 1), priority("b", 2)]);
    let call = tokio::spawn({
        let database = database.clone();
        async move { database.execute_ingestion_query_batch(&update).await }
    });
    until_blocked(&watcher, "deadlocked").await;
    transaction.execute("UPDATE job SET gpu = 7 WHERE job_id = 'a'", &[]).await.unwrap();
    transaction.commit().await.unwrap();
    call.await.unwrap().unwrap();

    let found: Vec<_> = all_jobs(&**database).await.iter().map(|job| (job.priority, job.gpu)).collect();
    assert_eq!(found, [(1, 7), (2, 7)]);
    store.remove().await.unwrap();
}

async fn statement_timeout() {
    let store = store(&shared("statement_timeout=0.3")).await;
    let database = store.database();
    let mut session = session(&store, &shared("")).await;
    database.execute_ingestion_query_batch(&batch([insert("a", "js")])).await.unwrap();
    let transaction = session.transaction().await.unwrap();
    transaction.execute("UPDATE job SET gpu = 7", &[]).await.unwrap();
    let error = database.execute_ingestion_query_batch(&batch([priority("a", 1)])).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied), "{error:?}");
    transaction.commit().await.unwrap();
    database.execute_ingestion_query_batch(&batch([priority("a", 2)])).await.unwrap();
    assert_eq!(all_jobs(&**database).await[0].priority, 2);
    store.remove().await.unwrap();
}

async fn busy_pool() {
    let store = store(&shared("application_name=busy&pool_size=1&acquire_timeout=0.2")).await;
    let database = store.database();
    let mut session = session(&store, &shared("")).await;
    database.execute_ingestion_query_batch(&batch([insert("a", "js")])).await.unwrap();
    let transaction = session.transaction().await.unwrap();
    transaction.execute("UPDATE job SET gpu = 7", &[]).await.unwrap();
    let call = tokio::spawn({
        let database = database.clone();
        async move { database.execute_ingestion_query_batch(&batch([priority("a", 1)])).await }
    });
    until_blocked(transaction.client(), "busy").await;
    let error = database.get_job_error("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    transaction.commit().await.unwrap();
    call.await.unwrap().unwrap();
    store.remove().await.unwrap();
}

async fn wrong_password() {
    let server = Server::postgres("password", "");
    let address = server.address().replace(":broadside@", ":hunter2@");
    let error = connect_error(&address).await;
    assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");
    let config: DatabaseConfig = address.parse().unwrap();
    for shown in [error.to_string(), format!("{error:?}"), format!("{config:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

async fn connect_error(address: &str) -> Error {
    address.parse::<DatabaseConfig>().unwrap().connect(Arc::new(SystemClock)).await.unwrap_err()
}

async fn tls() {
    let server = Server::postgres("tls", "");
    let address = server.address().split('?').next().unwrap();
    let by_number = address.replace("@localhost:", "@127.0.0.1:");
    let authority = format!("sslrootcert={}", server.exported("BROADSIDE_POSTGRES_CA"));
    let (session, connection) = tokio_postgres::connect(&format!("{address}?sslmode=disable"), NoTls).await.unwrap();
    tokio::spawn(connection);

    let accepted = [
        (with(address, "sslmode=disable"), false),
        (with(address, "sslmode=prefer"), true),
        (with(address, "sslmode=require"), true),
        (with(&with(address, "sslmode=verify-ca"), &authority), true),
        (with(&with(&by_number, "sslmode=verify-ca"), &authority), true),
        (with(&with(address, "sslmode=verify-full"), &authority), true),
    ];
    for (number, (address, encrypted)) in accepted.into_iter().enumerate() {
        let config: DatabaseConfig = with(&address, &format!("application_name=tls-{number}")).parse().unwrap();
        let database = config.connect(Arc::new(SystemClock)).await.unwrap();
        let sql = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = $1";
        let row = session.query_one(sql, &[&format!("tls-{number}")]).await.unwrap();
        assert_eq!(row.get::<_, Option<bool>>(0), Some(encrypted), "{address}");
        database.close().await.unwrap();
    }
    for refused in [
        // The certificate is not signed by one of Mozilla's root certificates.
        with(address, "sslmode=verify-ca"),
        with(address, "sslmode=verify-full"),
        // The certificate is for another name.
        with(&with(&by_number, "sslmode=verify-full"), &authority),
    ] {
        assert_eq!(connect_error(&refused).await.kind(), ErrorKind::Backend, "{refused}");
    }
    let error = "sslrootcert=/nowhere";
    let error = connect_error(&with(&with(address, "sslmode=verify-full"), error)).await;
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error:?}");
}
