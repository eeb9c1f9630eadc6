//! Objects of other programs beside a store, and stores of other programs.

use std::sync::Arc;

use broadside::{DatabaseConfig, ErrorKind, SystemClock};
use libtest_mimic::Trial;
use tokio_postgres::NoTls;

use super::trial;
use crate::support::postgres::{connect, handle, session, shared, store};
use crate::support::proxy::{Mode, Proxy};
use crate::support::server::{Server, with};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("tables-with-the-name-of-the-marker-are-ignored", other_markers),
        trial("a-table-that-is-dropped-while-the-catalog-is-read-is-left-out", dropped_meanwhile),
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
