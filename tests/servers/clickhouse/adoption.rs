//! Tables that have no marker, and addresses that do not match their tables.

use super::stores::{
    address_of, assert_common_lock, batch, client_of, connect, content, new_job, run, scratch, shared, write_errors,
};
use super::trial;
use crate::support::server::{Server, with};
use broadside::{ErrorKind, Outcome};
use libtest_mimic::Trial;

const LAYOUTS: [&str; 2] = ["layout=replacing", "layout=patch"];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("handles-from-before-and-after-an-adoption-share-the-write-lock", common_lock),
        trial("an-address-without-the-cluster-of-its-tables-is-refused", another_cluster),
        trial("tables-without-a-computed-column-are-not-adopted", missing_column),
    ]
}

async fn common_lock() {
    for layout in LAYOUTS {
        let store = scratch(&shared(layout)).await;
        run(&store, "DROP TABLE broadside_store SYNC").await;
        let adopting = connect(&address_of(&store, &format!("{layout}&adopt=true"))).await.unwrap();
        adopting.tear_down().await.unwrap();
        adopting.initialise_schema().await.unwrap();
        let other = connect(&address_of(&store, layout)).await.unwrap();
        assert_common_lock(&*adopting, &*other).await;
        store.remove().await.unwrap();
    }
}

/// Each refusal leaves the catalog and the rows as they were.
async fn another_cluster() {
    let server = Server::clickhouse("cluster", "");
    let client = client_of(server.address());
    let (plain, cluster) = ("adopt=true", "adopt=true&cluster=tests");
    for (database, own, other, advice) in
        [("plain", plain, cluster, "leave out cluster"), ("distributed", cluster, plain, "add cluster=NAME")]
    {
        let address = |parameters| with(&server.address().replace("/?", &format!("/{database}?")), parameters);
        let early = connect(&address(other)).await.unwrap();
        let handle = connect(&address(own)).await.unwrap();
        handle.initialise_schema().await.unwrap();
        handle.execute_ingestion_query_batch(&batch([new_job("job")])).await.unwrap();
        for marked in [true, false] {
            if !marked {
                client.query(&format!("DROP TABLE {database}.broadside_store SYNC")).execute().await.unwrap();
            }
            let before = content(&client, database).await;
            let mut errors = write_errors(&*early).await;
            errors.push(early.initialise_schema().await.unwrap_err());
            errors.push(connect(&address(other)).await.unwrap_err());
            for error in errors {
                assert_eq!((error.kind(), error.outcome()), (ErrorKind::WrongStore, Outcome::NotApplied), "{error:?}");
                assert!(error.message().contains(advice), "{error:?}");
            }
            assert_eq!(content(&client, database).await, before);
            connect(&address(own)).await.unwrap();
        }
    }
}

async fn missing_column() {
    for layout in LAYOUTS {
        let store = scratch(&shared(layout)).await;
        run(&store, "DROP TABLE broadside_store SYNC").await;
        run(&store, "ALTER TABLE job DROP COLUMN last_transition_seconds").await;
        let error = connect(&address_of(&store, &format!("{layout}&adopt=true"))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongStore, "{error:?}");
        assert!(error.message().contains("it has no column last_transition_seconds"), "{error:?}");
        store.remove().await.unwrap();
    }
}
