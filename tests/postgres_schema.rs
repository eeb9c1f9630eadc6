//! The tables that `initialise_schema` makes are Lookout's, as its own migrations leave them.

mod support;

use std::sync::Arc;

use broadside::{DatabaseConfig, POSTGRES_URL_VARIABLE, SystemClock};
use libtest_mimic::{Arguments, Failed, Trial};
use support::backends::{Backend, is_ci, runtime};
use tokio_postgres::{Client, NoTls};

const TABLES: [&str; 5] = ["job", "job_run", "job_spec", "job_error", "job_deduplication"];

const COLUMNS: &str = "
SELECT format('- %s: %s%s%s', attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN ', not null' END,
    ', default ' || pg_get_expr(adbin, adrelid))
FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE attrelid = $1::text::regclass AND attnum > 0
ORDER BY attnum";

const INDEXES: &str = "
SELECT format('- index %s: %s%s', i.relname, regexp_replace(pg_get_indexdef(i.oid), '^.* USING ', ''),
    CASE WHEN indisunique THEN ' (unique)' END)
FROM pg_index JOIN pg_class AS i ON i.oid = indexrelid
WHERE indrelid = $1::text::regclass
ORDER BY i.relname";

const OPTIONS: &str = "
SELECT '- table options: ' || array_to_string(reloptions, ',') FROM pg_class
WHERE oid = $1::text::regclass AND reloptions IS NOT NULL";

const STORAGE: &str = "
SELECT format('- storage of %s: EXTERNAL', attname) FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attstorage = 'e'
ORDER BY attnum";

fn main() {
    let arguments = Arguments::from_args();
    let missing = Backend::POSTGRES.missing_variable();
    let run = move || match missing {
        Some(variable) => Err(Failed::from(format!("{variable} is not set, so there is no PostgreSQL to test"))),
        None => {
            runtime().block_on(schema_is_lookouts());
            Ok(())
        }
    };
    let trial = Trial::test("postgres::the-schema-is-lookouts", run).with_ignored_flag(missing.is_some() && !is_ci());
    libtest_mimic::run(&arguments, vec![trial]).exit();
}

async fn schema_is_lookouts() {
    let address = std::env::var(POSTGRES_URL_VARIABLE).unwrap();
    let config: DatabaseConfig = address.parse().unwrap();
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    store.database().initialise_schema().await.unwrap();
    let (session, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    let shown = format!("{:?}", store.config());
    let schema = shown.split_once("schema: Some(\"").unwrap().1.split('"').next().unwrap();
    session.batch_execute(&format!("SET search_path = {schema}")).await.unwrap();

    let mut description = String::new();
    for table in TABLES {
        description += &format!("## {table}\n\n");
        for facts in [COLUMNS, INDEXES, OPTIONS, STORAGE] {
            description += &lines(&session, facts, table).await;
        }
        description.push('\n');
    }
    insta::assert_snapshot!(description);
    store.remove().await.unwrap();
}

async fn lines(session: &Client, facts: &str, table: &str) -> String {
    let rows = session.query(facts, &[&table]).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}
