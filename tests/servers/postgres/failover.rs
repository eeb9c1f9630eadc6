//! Failover: a server that becomes read-only or rejects sessions for a while, and another one that takes its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use broadside::scenario::Response;
use broadside::{Database, ErrorKind, Outcome};
use libtest_mimic::Trial;
use tokio_postgres::Client;

use super::faults::whole_job_sets;
use super::trial;
use crate::support::postgres::{batch, connect, handle, insert, job_set, schema, session, shared, store};
use crate::support::proxy::Proxy;
use crate::support::server::{Server, with};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("servers-that-take-turns-store-each-batch-once", swapped_servers),
        trial("a-session-that-is-read-only-is-replaced", read_only_role),
        trial("a-conflict-during-the-set-up-of-a-session-is-retried", conflicting_setup),
    ]
}

/// The number of failovers.
const TURNS: usize = 4;

/// Makes all sessions of a server read-only or not, except this one.
async fn set_read_only(session: &Client, value: &str) {
    session.batch_execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}")).await.unwrap();
    session.batch_execute("SELECT pg_reload_conf()").await.unwrap();
}

/// Writes job sets until it is told to stop. Returns their names.
async fn write_until(
    stop: &AtomicBool,
    written: &AtomicUsize,
    database: Arc<dyn Database>,
    writer: usize,
) -> Vec<String> {
    let mut names = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let name = format!("{writer}-{:04}", names.len());
        database.execute_ingestion_query_batch(&job_set(&name)).await.unwrap();
        names.push(name);
        written.fetch_add(1, Ordering::Relaxed);
    }
    names
}

/// The old server becomes read-only a while before new connections reach the other one. Connections are not closed.
async fn swapped_servers() {
    let servers = [Server::postgres("turns-0", ""), Server::postgres("turns-1", "")];
    let proxy = Proxy::start(servers[0].address()).await;
    let store = store(&with(proxy.address(), "pool_size=4")).await;
    let direct = [handle(&store, servers[0].address()).await, handle(&store, servers[1].address()).await];
    direct[1].initialise_schema().await.unwrap();
    let sessions = [session(&store, servers[0].address()).await, session(&store, servers[1].address()).await];
    for session in &sessions {
        session.batch_execute("SET default_transaction_read_only = off").await.unwrap();
    }

    let (stop, written) = (AtomicBool::new(false), AtomicUsize::new(0));
    let more_batches = async || {
        let before = written.load(Ordering::Relaxed);
        while written.load(Ordering::Relaxed) < before + 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let failovers = async {
        for turn in 1..=TURNS {
            more_batches().await;
            set_read_only(&sessions[(turn - 1) % 2], "on").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            set_read_only(&sessions[turn % 2], "off").await;
            proxy.forward_to(servers[turn % 2].address());
        }
        more_batches().await;
        stop.store(true, Ordering::Relaxed);
    };
    let read = async {
        while !stop.load(Ordering::Relaxed) {
            whole_job_sets(&**store.database()).await;
        }
    };
    let second = handle(&store, proxy.address()).await;
    let (mut expected, more, (), ()) = tokio::join!(
        write_until(&stop, &written, store.database().clone(), 1),
        write_until(&stop, &written, second, 2),
        failovers,
        read
    );
    expected.extend(more);
    let (first, second) = (whole_job_sets(&*direct[0]).await, whole_job_sets(&*direct[1]).await);
    assert!(!first.is_empty() && !second.is_empty());
    let mut stored = [first, second].concat();
    stored.sort();
    assert_eq!(stored, expected);
}

/// A role whose sessions become read-only and writable again.
async fn read_only_role() {
    let store = store(&shared("")).await;
    let role = format!("{}_writer", schema(&store));
    let session = session(&store, &shared("")).await;
    session.batch_execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'writer' IN ROLE broadside")).await.unwrap();
    let address = shared("").replace("broadside:broadside@", &format!("{role}:writer@"));
    let read_only = async |value: &str| {
        let alter = format!("ALTER ROLE {role} SET default_transaction_read_only = {value}");
        session.batch_execute(&alter).await.unwrap();
    };
    let writer = handle(&store, &address).await;
    writer.execute_ingestion_query_batch(&job_set("before")).await.unwrap();

    read_only("on").await;
    let terminate = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    session.batch_execute(&terminate).await.unwrap();
    // This handle has not written: for all it knows, the role is never allowed to.
    let reader = handle(&store, &address).await;
    let error = reader.execute_ingestion_query_batch(&job_set("refused")).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Backend, Outcome::NotApplied), "{error:?}");
    let shown = Response::from(&error).to_string();
    assert_eq!(shown.matches("read-only transaction").count(), 1, "{shown}");
    assert!(!shown.contains("db error"), "{shown}");
    let call = tokio::spawn(async move { writer.execute_ingestion_query_batch(&job_set("during")).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!call.is_finished());
    read_only("off").await;
    call.await.unwrap().unwrap();
    reader.execute_ingestion_query_batch(&job_set("after")).await.unwrap();
    assert_eq!(whole_job_sets(&**store.database()).await, ["after", "before", "during"]);
    drop(reader);
    store.remove().await.unwrap();
    session.batch_execute(&format!("{terminate}; DROP ROLE {role}")).await.unwrap();
}

/// On a standby, a conflict with the replay of the log can abort any statement, also those that set up a session. Here
/// a function of the role's search path does so.
async fn conflicting_setup() {
    let store = store(&shared("")).await;
    let role = format!("{}_standby", schema(&store));
    let session = session(&store, &shared("")).await;
    let setup = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'standby' IN ROLE broadside;
        ALTER ROLE {role} SET search_path = {0}, pg_catalog;
        CREATE SEQUENCE attempts;
        CREATE FUNCTION pg_backend_pid() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('{0}.attempts') <= 2 THEN
                RAISE 'canceling statement due to conflict with recovery' USING ERRCODE = '40001';
            END IF;
            RETURN pg_catalog.pg_backend_pid();
        END $$",
        schema(&store)
    );
    session.batch_execute(&setup).await.unwrap();
    let address = shared("").replace("broadside:broadside@", &format!("{role}:standby@"));
    let database = connect(&with(&address, &format!("schema={}", schema(&store)))).await.unwrap();
    database.execute_ingestion_query_batch(&batch([insert("a", "js")])).await.unwrap();
    let attempts: i64 = session.query_one("SELECT last_value FROM attempts", &[]).await.unwrap().get(0);
    assert!(attempts > 2, "{attempts}");
    drop(database);
    store.remove().await.unwrap();
    let terminate = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'");
    session.batch_execute(&format!("{terminate}; DROP ROLE {role}")).await.unwrap();
}
