//! The stores that processes have left on the servers, including those without a marker, by the servers' catalogs.

use std::sync::Arc;

use broadside::{DatabaseConfig, SystemClock};
use clickhouse::{Client, Compression};
use tokio_postgres::NoTls;
use url::Url;

/// The stores on a server that were created by the process with an id.
pub async fn stores_of(address: &str, process: u32) -> Vec<String> {
    let pattern = format!("^broadside_[0-9a-f]+_{process}_");
    if address.starts_with("postgres") {
        let rows = postgres(address)
            .await
            .query("SELECT nspname::text FROM pg_namespace WHERE nspname ~ $1 ORDER BY 1", &[&pattern])
            .await;
        return rows.unwrap().iter().map(|row| row.get(0)).collect();
    }
    let query = "SELECT name FROM system.databases WHERE match(name, ?) ORDER BY 1";
    clickhouse(address).query(query).bind(pattern).fetch_all().await.unwrap()
}

/// Creates a scratch store whose marker has a time of creation in 2020.
pub async fn leave_behind(address: &str, store: &str) {
    let created = "2020-01-01T00:00:00Z";
    if address.starts_with("postgres") {
        let config: DatabaseConfig = address.parse().unwrap();
        let _left = config.create_scratch_named(store, Arc::new(SystemClock)).await.unwrap();
        let age = format!("UPDATE {store}.broadside_store SET value = '{created}' WHERE key = 'created'");
        assert_eq!(postgres(address).await.execute(&age, &[]).await.unwrap(), 1);
    } else {
        let marker = format!(r#"{{"madeBy":"broadside","scratch":true,"created":"{created}"}}"#);
        let create = format!("CREATE DATABASE {store} COMMENT '{marker}'");
        clickhouse(address).query(&create).execute().await.unwrap();
    }
}

/// Drops a store, with or without a marker.
pub async fn remove(address: &str, store: &str) {
    if address.starts_with("postgres") {
        postgres(address).await.batch_execute(&format!("DROP SCHEMA IF EXISTS {store} CASCADE")).await.unwrap();
    } else {
        clickhouse(address).query(&format!("DROP DATABASE IF EXISTS {store}")).execute().await.unwrap();
    }
}

async fn postgres(address: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

fn clickhouse(address: &str) -> Client {
    let url: Url = address.strip_prefix("clickhouse+").unwrap().parse().unwrap();
    let client = Client::default()
        .with_url(format!("http://{}:{}", url.host_str().unwrap(), url.port().unwrap()))
        .with_compression(Compression::None);
    let client = if url.username().is_empty() { client } else { client.with_user(url.username()) };
    url.password().map_or(client.clone(), |password| client.with_password(password))
}
