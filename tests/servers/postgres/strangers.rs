//! Objects of other programs beside a store, and stores of other programs.

use std::sync::Arc;

use broadside::{DatabaseConfig, ErrorKind, SystemClock};
use libtest_mimic::Trial;
use tokio_postgres::NoTls;

use super::stores::{drop_unmarked, unmarked};
use super::trial;
use crate::support::postgres::{connect, handle, schema, session, shared, store, try_handle};
use crate::support::proxy::{Mode, Proxy};
use crate::support::server::{Server, with};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("tables-with-the-name-of-the-marker-are-ignored", other_markers),
        trial("a-table-that-is-dropped-while-the-catalog-is-read-is-left-out", dropped_meanwhile),
        trial("stores-of-other-programs-are-refused-by-name", other_layouts),
    ]
}

async fn other_markers() {
    let server = Server::postgres("strangers", "");
    let (client, connection) = tokio_postgres::connect(server.address(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let theirs = "
        CREATE SCHEMA one; CREATE TABLE one.broadside_store (k text);
        CREATE SCHEMA two; CREATE TABLE two.broadside_store (key integer, value bytea);
        INSERT INTO two.broadside_store VALUES (1, NULL);
        CREATE SCHEMA three; CREATE TABLE three.broadside_store (key text, value text);
        INSERT INTO three.broadside_store VALUES ('made_by', NULL), (NULL, 'x');
        CREATE SCHEMA four; CREATE VIEW four.broadside_store AS SELECT 'scratch' AS key, 1 / 0 AS value;
        CREATE SCHEMA five; CREATE SEQUENCE five.broadside_store;
        CREATE SCHEMA six; CREATE TABLE six.broadside_store (key text PRIMARY KEY, value text);
        INSERT INTO six.broadside_store VALUES ('scratch', 'x'), ('y', NULL)";
    client.batch_execute(theirs).await.unwrap();
    let config: DatabaseConfig = server.address().parse().unwrap();
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    let listed = config.scratch_stores().await.unwrap();
    assert_eq!(listed.iter().map(|store| store.name.as_str()).collect::<Vec<_>>(), [store.name().unwrap()]);
    for (schema, refused) in
        [("one", true), ("two", true), ("three", true), ("four", true), ("five", true), ("six", false)]
    {
        let opened = connect(&with(server.address(), &format!("schema={schema}"))).await;
        match opened {
            Ok(_) => assert!(!refused, "{schema}"),
            Err(error) => assert!(refused && error.kind() == ErrorKind::WrongStore, "{error:?}"),
        }
        let error = config.remove_scratch(schema).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
    }
    store.remove().await.unwrap();
}

/// Another process drops a table after the snapshot of a transaction that reads the catalog.
async fn dropped_meanwhile() {
    let store = store(&shared("")).await;
    let proxy = Proxy::start(&shared("")).await;
    let isolation = "options=-c default_transaction_isolation=repeatable\\ read";
    let database = handle(&store, &with(proxy.address(), isolation)).await;
    // Sent between the first statement of the transaction and the reading of the catalog.
    proxy.set(Mode::HoldRequests("FROM pg_namespace WHERE nspname"));
    let call = tokio::spawn(async move { database.initialise_schema().await });
    proxy.holds().await;
    session(&store, &shared("")).await.batch_execute("DROP TABLE job_run").await.unwrap();
    proxy.set(Mode::Open);
    call.await.unwrap().unwrap();
    store.remove().await.unwrap();
}

/// Layouts of upstream Broadside and of Lookout whose tables have the names of this backend's.
const LAYOUTS: [(&str, &str); 3] = [
    (
        "hotColdSplit of upstream Broadside",
        "CREATE TABLE job_historical (LIKE job INCLUDING ALL);
        INSERT INTO job_historical SELECT * FROM job WHERE state = 4; DELETE FROM job WHERE state = 4;
        ALTER TABLE job ADD CONSTRAINT chk_job_active_state CHECK (state IN (1, 2, 3, 8));
        ALTER TABLE job_historical ADD CONSTRAINT chk_job_historical_terminal_state CHECK (state IN (4, 5, 6, 7, 9));
        CREATE VIEW job_all AS SELECT * FROM job UNION ALL SELECT * FROM job_historical",
    ),
    (
        "partitionBySubmitted of upstream Broadside",
        "ALTER TABLE job RENAME TO job_unpartitioned;
        CREATE TABLE job (LIKE job_unpartitioned, PRIMARY KEY (job_id, submitted)) PARTITION BY RANGE (submitted);
        CREATE TABLE job_default PARTITION OF job DEFAULT; INSERT INTO job SELECT * FROM job_unpartitioned;
        ALTER TABLE job_run ADD COLUMN submitted timestamp NOT NULL; ALTER TABLE job_spec ADD COLUMN submitted timestamp NOT NULL",
    ),
    (
        "experimentalHotColdSplit of Lookout",
        "ALTER TABLE job RENAME TO job_old;
        CREATE TABLE job (LIKE job_old, PRIMARY KEY (job_id, state)) PARTITION BY LIST (state);
        CREATE TABLE job_active PARTITION OF job FOR VALUES IN (1, 2, 3, 8);
        CREATE TABLE job_terminated PARTITION OF job FOR VALUES IN (4, 5, 6, 7, 9);
        INSERT INTO job SELECT * FROM job_old; DROP TABLE job_old",
    ),
];

async fn other_layouts() {
    for (name, statements) in LAYOUTS {
        let store = unmarked(crate::support::postgres::LAYOUTS[0]).await;
        session(&store, &shared("")).await.batch_execute(statements).await.unwrap();
        for parameters in ["", "adopt=true", "hot_cold_split=true&adopt=true", "partition_by_submitted=true&adopt=true"]
        {
            let error = try_handle(&store, &shared(parameters)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
            assert!(error.message().contains(name) && error.message().contains(&schema(&store)), "{error:?}");
        }
        drop_unmarked(store).await;
    }
}
