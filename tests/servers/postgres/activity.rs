//! The activity of the server.

use std::time::Duration;

use broadside::{Activity, Database};
use libtest_mimic::Trial;
use tokio_postgres::Client;

use super::trial;
use crate::support::postgres::{JOBS, handle, job_set, schema, session, shared, store};
use crate::support::server::{Server, with};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("the-activity-is-that-of-the-server", of_server),
        trial("a-lock-is-part-of-the-activity-and-does-not-delay-it", beside_a_lock),
    ]
}

/// The activity as soon as the server has counted what the condition requires: sessions report their transactions, and
/// the checkpointer its checkpoints, only after some time.
async fn activity_with(database: &dyn Database, counted: impl Fn(&Activity) -> bool) -> Activity {
    loop {
        let activity = database.activity().await.unwrap();
        if counted(&activity) {
            return activity;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn value(session: &Client, sql: &str) -> u64 {
    u64::try_from(session.query_one(sql, &[]).await.unwrap().get::<_, i64>(0)).unwrap()
}

async fn of_server() {
    const BATCHES: u64 = 60;
    const WAL: &str = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint";
    const INDEXES: &str = "SELECT sum(pg_relation_size(c.oid, f))::bigint
        FROM pg_class AS c, unnest('{main,fsm,vm,init}'::text[]) AS f
        WHERE relkind = 'i' AND relnamespace = current_schema()::regnamespace";
    // Nothing else writes to this server.
    let server = Server::postgres("activity", "-c autovacuum=off -c track_io_timing=on");
    let store = store(server.address()).await;
    let session_of = session;
    let session = session_of(&store, server.address()).await;
    let loaded = store.database().another_handle().await.unwrap();

    let (wal, xid) = (value(&session, WAL).await, value(&session, "SELECT txid_current()").await);
    let before = store.database().activity().await.unwrap();
    for number in 0..BATCHES {
        loaded.execute_ingestion_query_batch(&job_set(&format!("set-{number}"))).await.unwrap();
    }
    // A session that ends reports all its transactions.
    loaded.close().await.unwrap();
    let transactions = value(&session, "SELECT txid_current()").await - xid;
    assert!((BATCHES..BATCHES + 5).contains(&transactions), "{transactions}");
    let committed = before.counters["commits"] + BATCHES;
    let counted = activity_with(&**store.database(), |activity| activity.counters["commits"] >= committed).await;
    // The connections and the readings commit too, the more of them the longer the server takes to count.
    assert!(counted.counters["commits"] < committed + 10 * BATCHES, "{counted:?}");
    assert!(wal <= before.counters["walBytes"] && counted.counters["walBytes"] <= value(&session, WAL).await);
    assert!(counted.counters["walBytes"] > before.counters["walBytes"] + BATCHES * 40 * 100);
    assert!(before.counters.contains_key("blockReadMicros"));
    assert_eq!(before.unreadable, Vec::<String>::new());

    let grown = |name: &'static str| {
        let (one_more, database) = (counted.counters[name] + 1, store.database().clone());
        async move {
            let activity = activity_with(&*database, |activity| activity.counters[name] >= one_more).await;
            assert_eq!(activity.counters[name], one_more, "{name}");
        }
    };
    session.batch_execute("CHECKPOINT").await.unwrap();
    grown("checkpoints").await;
    session_of(&store, server.address()).await.batch_execute("DELETE FROM job_run").await.unwrap();
    let deleted = BATCHES * JOBS as u64;
    let dead = activity_with(&**store.database(), |activity| activity.gauges["deadRows"] >= deleted).await;
    assert_eq!(
        dead.gauges["deadRows"],
        value(&session, "SELECT n_dead_tup FROM pg_stat_user_tables WHERE relname = 'job_run'").await
    );
    session.batch_execute("VACUUM job_run").await.unwrap();
    grown("vacuums").await;
    let info = store.database().store_info().await.unwrap();
    assert_eq!(info.index_bytes, Some(value(&session, INDEXES).await));

    // What a user may not read is left out.
    session
        .batch_execute(&format!(
            "CREATE ROLE reader LOGIN PASSWORD 'reader'; REVOKE SELECT ON pg_stat_bgwriter, pg_stat_database FROM PUBLIC;
            REVOKE EXECUTE ON FUNCTION pg_current_wal_insert_lsn FROM PUBLIC;
            GRANT USAGE ON SCHEMA {0} TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA {0} TO reader",
            schema(&store)
        ))
        .await
        .unwrap();
    let reader = with(server.address(), "user=reader&password=reader");
    let activity = handle(&store, &reader).await.activity().await.unwrap();
    assert_eq!(activity.unreadable.len(), 3, "{:?}", activity.unreadable);
    for view in ["pg_stat_bgwriter", "pg_stat_database", "pg_stat_activity (autovacuum workers"] {
        assert!(activity.unreadable.iter().any(|unreadable| unreadable.starts_with(view)), "{:?}", activity.unreadable);
    }
    let names: Vec<_> = activity.counters.keys().chain(activity.gauges.keys()).map(String::as_str).collect();
    let readable = ["analyses", "vacuums", "walBuffersFull", "walFullPages", "deadRows", "lockWaits", "runningVacuums"];
    assert_eq!(names, readable);
    assert_eq!(activity.counters["vacuums"], counted.counters["vacuums"] + 1);
}

async fn beside_a_lock() {
    let store = store(&shared("")).await;
    let session = session(&store, &shared("")).await;
    session.batch_execute("BEGIN; LOCK TABLE job IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let blocked = store.database().another_handle().await.unwrap();
    let batch = job_set("blocked");
    let unlocked = async {
        activity_with(&**store.database(), |activity| activity.gauges["lockWaits"] > 0).await;
        session.batch_execute("ROLLBACK").await.unwrap();
    };
    let (stored, ()) = tokio::join!(blocked.execute_ingestion_query_batch(&batch), unlocked);
    stored.unwrap();
    store.remove().await.unwrap();
}
