//! Sessions: behind poolers, without the privilege to write, and after dropped calls.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::exchange::exported;
use super::trial;
use crate::support::backends::is_ci;
use crate::support::jobs::all_jobs;
use crate::support::postgres::{
    JOBS, LAYOUTS, Layout, batch, connect, handle, insert, job_set, names, priority, schema, session, shared, store,
    until, until_blocked, write_errors,
};
use crate::support::server::{Server, with};
use broadside::exchange::Part;
use broadside::load::LoadConfig;
use broadside::query::GroupField;
use broadside::{DatabaseConfig, ErrorKind, GroupQuery, JobQuery, Outcome, ReadCall, SystemClock};
use libtest_mimic::Trial;
use tokio_postgres::NoTls;

/// The variables with the addresses of poolers.
const POOLERS: [(&str, &str); 3] = [
    ("sessions-without-options", "BROADSIDE_PGBOUNCER_SESSION_URL"),
    ("transactions", "BROADSIDE_PGBOUNCER_TRANSACTION_URL"),
    ("sessions-and-options-refused", "BROADSIDE_PGBOUNCER_URL"),
];

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("a-dropped-call-cancels-its-statement", || dropped("")),
        trial("a-dropped-call-cancels-its-statement::tls", || dropped("sslmode=require")),
        trial("a-dropped-call-keeps-its-permit-until-its-statement-ends", dropped_in_pool),
        trial("connections-have-a-maximum-age-and-idle-time", aged),
        trial("settings-of-a-load-configuration-reach-the-server", configured_settings),
        trial("failed-statements-of-the-configuration-are-named", configured),
        trial("the-command-explains-with-statistics", explained_by_the_command),
    ];
    for layout in LAYOUTS {
        let name = |test: &str| format!("{test}::{}", layout.name);
        trials.push(trial(&name("reads-require-no-privilege-to-write"), move || read_only(layout)));
        trials.push(trial(&name("a-plan-is-explained"), move || explained(layout)));
    }
    for (pooler, variable) in POOLERS {
        let missing = std::env::var_os(variable).is_none();
        let name = |test: &str| format!("{test}::{pooler}");
        let address = move || std::env::var(variable).unwrap();
        let behind = [
            trial(&name("a-store-is-isolated-behind-a-pooler"), move || pooled_store(address())),
            trial(&name("many-calls-share-a-pooler"), move || pooled_crowd(address())),
            trial(&name("temporary-tables-of-others-are-ignored"), move || strange_tables(address())),
            trial(&name("a-refusal-of-a-pooler-shows-no-part-of-the-address"), move || refused_by_pooler(address())),
            trial(&name("settings-take-effect-and-are-not-left-behind"), move || pooled_settings(address())),
        ];
        trials.extend(behind.map(|trial| trial.with_ignored_flag(missing && !is_ci())));
    }
    trials
}

/// The sessions of the pooler are in another schema, whose `job_run` must not change.
async fn pooled_store(pooler: String) {
    let theirs = store(&shared("")).await;
    theirs.database().execute_ingestion_query_batch(&job_set("theirs")).await.unwrap();
    let before = all_jobs(&**theirs.database()).await;
    let path = format!("search_path%3D{}", schema(&theirs));
    let spoil = async || {
        // Another client of the pooler leaves its search path and a temporary table in the sessions.
        let (client, connection) = tokio_postgres::connect(&pooler, NoTls).await.unwrap();
        tokio::spawn(connection);
        let leave = format!("SET search_path = {}; CREATE TEMPORARY TABLE IF NOT EXISTS staged ()", schema(&theirs));
        client.batch_execute(&leave).await.unwrap();
    };
    for layout in LAYOUTS {
        spoil().await;
        let address = with(&with(&pooler, layout.parameter), &format!("options=-c%20{path}"));
        let ours = store(&address).await;
        for name in names(3) {
            spoil().await;
            ours.database().execute_ingestion_query_batch(&job_set(&name)).await.unwrap();
        }
        assert_eq!(all_jobs(&**ours.database()).await.len(), 3 * JOBS);
        let direct = handle(&ours, &shared(layout.parameter)).await;
        assert_eq!(all_jobs(&*direct).await.len(), 3 * JOBS);
        spoil().await;
        let rows = exported(&**ours.database()).await;
        assert_eq!(exported(&*direct).await, rows);
        spoil().await;
        ours.database().tear_down().await.unwrap();
        assert!(all_jobs(&*direct).await.is_empty());
        spoil().await;
        ours.database().import(&Part::new(rows.clone(), "").unwrap()).await.unwrap();
        assert_eq!(exported(&*direct).await, rows);
        assert_eq!(all_jobs(&**theirs.database()).await, before);
        ours.remove().await.unwrap();
    }
    assert_eq!(all_jobs(&**theirs.database()).await, before);
    theirs.remove().await.unwrap();
}

/// Two handles with more concurrent calls than the pooler has sessions.
async fn pooled_crowd(pooler: String) {
    let store = store(&with(&pooler, "pool_size=6")).await;
    let other = handle(&store, &with(&pooler, "pool_size=6")).await;
    let calls = names(40).into_iter().enumerate().map(|(number, name)| {
        let database = if number % 2 == 0 { store.database().clone() } else { other.clone() };
        tokio::spawn(async move {
            database.execute_ingestion_query_batch(&job_set(&name)).await?;
            database.get_job_error(&format!("{name}-00")).await.map(drop).or_else(|error| match error.kind() {
                ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    assert_eq!(all_jobs(&*other).await.len(), 40 * JOBS);
    store.remove().await.unwrap();
}

/// Other clients of a pooler leave temporary tables with the names of the store's in its sessions.
async fn strange_tables(pooler: String) {
    let store = store(&pooler).await;
    store.database().execute_ingestion_query_batch(&job_set("set")).await.unwrap();
    let tables = ["job", "job_run", "job_historical", "broadside_store", "broadside_deferred_index"];
    let create: String =
        tables.iter().map(|table| format!("CREATE TEMPORARY TABLE IF NOT EXISTS {table} (k text);")).collect();
    let (client, connection) = tokio_postgres::connect(&pooler, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&create).await.unwrap();
    let other = handle(&store, &pooler).await;
    for _ in 0..3 {
        assert_eq!(all_jobs(&*other).await.len(), JOBS);
        other.execute_ingestion_query_batch(&batch([priority("set-00", 1)])).await.unwrap();
        other.initialise_schema().await.unwrap();
    }
    let drop: String = tables.iter().map(|table| format!("DROP TABLE IF EXISTS pg_temp.{table};")).collect();
    client.batch_execute(&drop).await.unwrap();
    store.remove().await.unwrap();
}

async fn refused_by_pooler(pooler: String) {
    let (before, _) = pooler.rsplit_once('/').unwrap();
    let address = format!("{before}/hunter2?sslmode=disable&connect_timeout=2");
    let error = connect(&address).await.unwrap_err();
    let shown = format!("{error:?} {error} {}", error.message());
    assert!(!shown.contains("hunter2"), "{shown}");
}

async fn pooled_settings(pooler: String) {
    let store = store(&with(&pooler, "statement_timeout=0.3&options=-c%20lock_timeout%3D1h")).await;
    let database = store.database();
    database.execute_ingestion_query_batch(&batch([insert("a", "js")])).await.unwrap();
    let mut session = session(&store, &shared("")).await;
    let transaction = session.transaction().await.unwrap();
    transaction.execute("UPDATE job SET gpu = 7", &[]).await.unwrap();
    let error = database.execute_ingestion_query_batch(&batch([priority("a", 1)])).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Timeout, Outcome::NotApplied), "{error:?}");
    transaction.commit().await.unwrap();
    // The next client of the sessions must find no settings, prepared statements or temporary tables.
    let (client, connection) = tokio_postgres::connect(&pooler, NoTls).await.unwrap();
    tokio::spawn(connection);
    let question = "SELECT current_setting('statement_timeout') || current_setting('lock_timeout')
        || current_setting('plan_cache_mode') || (SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%job%')
        || (SELECT count(*) FROM pg_class WHERE relname = 'broadside_staged' AND relnamespace = pg_my_temp_schema())";
    let answers = client.simple_query(question).await.unwrap();
    let answer = answers.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    assert_eq!(answer.as_deref(), Some("00auto00"));
    store.remove().await.unwrap();
}

/// A role without the privilege to write, in read-only sessions.
async fn read_only(layout: Layout) {
    let store = store(&shared(layout.parameter)).await;
    let name = schema(&store);
    store.database().execute_ingestion_query_batch(&job_set("set")).await.unwrap();
    let session = session(&store, &shared("")).await;
    let grants = format!(
        "SELECT pg_advisory_xact_lock(1); CREATE ROLE {name}_reader LOGIN PASSWORD 'reader'; REVOKE TEMPORARY ON DATABASE postgres FROM PUBLIC;
        GRANT USAGE ON SCHEMA {name} TO {name}_reader; GRANT SELECT ON ALL TABLES IN SCHEMA {name} TO {name}_reader;
        ALTER ROLE {name}_reader SET default_transaction_read_only = on"
    );
    session.batch_execute(&grants).await.unwrap();
    let address = shared(layout.parameter).replace("broadside:broadside@", &format!("{name}_reader:reader@"));
    let reader = handle(&store, &address).await;
    assert_eq!(all_jobs(&*reader).await, all_jobs(&**store.database()).await);
    assert_eq!(exported(&*reader).await, exported(&**store.database()).await);
    let groups = reader.get_job_groups(&GroupQuery::by(GroupField::Queue)).await.unwrap();
    assert_eq!(groups[0].count, JOBS as u64);
    let missing = reader.get_job_spec("set-00").await.unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound, "{missing:?}");
    assert!(reader.store_info().await.unwrap().bytes.is_some());
    reader.explain(&ReadCall::JobSpec("set-00".to_owned())).await.unwrap();
    assert_eq!(reader.property("key").await.unwrap(), None);
    // The server leaves out the tables of others.
    reader.analyse().await.unwrap();
    for error in write_errors(&*reader).await {
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Backend, Outcome::NotApplied), "{error:?}");
    }
    reader.close().await.unwrap();
    store.remove().await.unwrap();
    session.batch_execute(&format!("DROP ROLE {name}_reader")).await.unwrap();
}

async fn explained(layout: Layout) {
    let store = store(&shared(layout.parameter)).await;
    store.database().execute_ingestion_query_batch(&job_set("set")).await.unwrap();
    let calls = [
        (ReadCall::Jobs(JobQuery::new().limit(7)), "rows=7 loops=1"),
        (ReadCall::JobError("set-00".to_owned()), "rows=0 loops=1"),
        (ReadCall::JobRunDebugMessage("\0".to_owned()), "rows=0 loops=1"),
    ];
    for (call, measured) in calls {
        let explanation = store.database().explain(&call).await.unwrap();
        let [statement] = explanation.statements.as_slice() else { panic!("{explanation:?}") };
        assert!(statement.statement.starts_with("SELECT"), "{statement:?}");
        assert!(statement.plan.contains(measured) && statement.plan.contains("Execution Time"), "{}", statement.plan);
    }
    store.remove().await.unwrap();
}

/// The command explains with the statistics of the planner: its estimate is the number of rows.
async fn explained_by_the_command() {
    let arguments = ["explain", "--backend", &shared(""), "--jobs", "3000", r#"{"op":"getJobs"}"#];
    let output = Command::new(env!("CARGO_BIN_EXE_broadside")).args(arguments).output().unwrap();
    let plan = String::from_utf8(output.stdout).unwrap();
    let scan = plan.lines().find(|line| line.contains("Seq Scan on job j")).unwrap_or_else(|| panic!("{plan}"));
    assert_eq!(scan.matches("rows=3000 ").count(), 2, "{scan}");
}

/// The condition that no session of the application is busy.
fn is_idle(application: &str) -> String {
    format!(
        "SELECT NOT EXISTS (SELECT FROM pg_stat_activity
            WHERE application_name = '{application}' AND (state <> 'idle' OR backend_xid IS NOT NULL))"
    )
}

async fn dropped(parameters: &str) {
    let server = Server::postgres(&format!("dropped-{}", parameters.len()), "");
    let address = with(server.address().split('?').next().unwrap(), "application_name=dropped-call");
    let store = store(&with(&address, parameters)).await;
    let plain = with(&address, "sslmode=disable").replace("dropped-call", "watcher");
    // Within a transaction, pg_stat_activity does not change.
    let (holder, watcher) = (session(&store, &plain).await, session(&store, &plain).await);
    store.database().execute_ingestion_query_batch(&batch([insert("a", "js")])).await.unwrap();
    holder.batch_execute("BEGIN; UPDATE job SET gpu = 7").await.unwrap();
    let database = store.database().clone();
    let call = tokio::spawn(async move { database.execute_ingestion_query_batch(&batch([priority("a", 1)])).await });
    until_blocked(&watcher, "dropped-call").await;
    call.abort();
    call.await.unwrap_err();
    // The lock for which the statement waits is still held.
    until(&watcher, &is_idle("dropped-call")).await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    store.database().execute_ingestion_query_batch(&batch([priority("a", 2)])).await.unwrap();
    assert_eq!(all_jobs(&**store.database()).await[0].priority, 2);
    store.remove().await.unwrap();
}

/// A dropped call counts toward the pool size until its statement has ended.
async fn dropped_in_pool() {
    let application = "dropped-in-pool";
    let address = shared(&format!("application_name={application}&pool_size=2&acquire_timeout=30"));
    let store = store(&address).await;
    let (holder, session) = (session(&store, &shared("")).await, session(&store, &shared("")).await);
    store.database().execute_ingestion_query_batch(&batch([insert("a", "js")])).await.unwrap();
    holder.batch_execute("BEGIN; UPDATE job SET gpu = 7").await.unwrap();
    for _ in 0..12 {
        let database = store.database().clone();
        let call =
            tokio::spawn(async move { database.execute_ingestion_query_batch(&batch([priority("a", 1)])).await });
        until_blocked(&session, application).await;
        call.abort();
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
        let sessions: i64 = session.query_one(busy, &[&application]).await.unwrap().get(0);
        assert!(sessions <= 2, "{sessions} sessions");
    }
    holder.batch_execute("ROLLBACK").await.unwrap();
    until(&session, &is_idle(application)).await;
    store.remove().await.unwrap();
}

/// If a statement of the configuration fails, the error names its key and describes what was committed before.
/// The processes of the server change exactly when a limit is exceeded.
async fn aged() {
    for (limit, parameters, changes) in [
        ("max_lifetime", "&max_lifetime=0.3&max_idle_time=60", true),
        ("max_idle_time", "&max_lifetime=60&max_idle_time=0.3", true),
        ("no_limit", "", false),
    ] {
        let application = format!("aged-{limit}");
        let store = store(&shared(&format!("application_name={application}{parameters}"))).await;
        let watcher = session(&store, &shared("")).await;
        let processes = async || -> Vec<i32> {
            let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = $1";
            watcher.query(sql, &[&application]).await.unwrap().iter().map(|row| row.get(0)).collect()
        };
        assert!(all_jobs(&**store.database()).await.is_empty());
        let before = processes().await;
        assert!(!before.is_empty());
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(all_jobs(&**store.database()).await.is_empty());
        let gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ANY($1))";
        let mut closed = false;
        for _ in 0..100 {
            closed = watcher.query_one(gone, &[&before]).await.unwrap().get(0);
            if closed || !changes {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(closed, changes, "{limit}");
        store.remove().await.unwrap();
    }
}

/// The tuning SQL stores the settings of its session as the server reads them.
async fn configured_settings() {
    let url: tokio_postgres::Config = shared("").parse().unwrap();
    let tokio_postgres::config::Host::Tcp(host) = &url.get_hosts()[0] else { panic!("the host is a socket") };
    let database = |keys: &str| {
        let text = format!(
            "
testDuration: 1s
ingestionConfig: {{batchSize: 1}}
queueConfig: [{{name: q, proportion: 1, jobSetConfig: [{{name: s, proportion: 1}}]}}]
databaseConfig:
  postgres:
    {{host: {host}, port: {port}, database: {database}, user: {user}, password: '{password}', sslmode: disable, {keys}}}
  postgresTuningSQL:
    - CREATE TABLE IF NOT EXISTS settings AS SELECT current_setting('statement_timeout') AS statement,
      current_setting('lock_timeout') AS lock, current_setting('work_mem') AS memory
",
            port = url.get_ports()[0],
            database = url.get_dbname().unwrap(),
            user = url.get_user().unwrap(),
            password = String::from_utf8_lossy(url.get_password().unwrap()),
        );
        LoadConfig::parse([("test.yaml", text.as_str())], []).unwrap().config.database.config().unwrap()
    };
    let config = database("statement_timeout: '30000', lock_timeout: 5s, work_mem: 5MB");
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    store.database().initialise_schema().await.unwrap();
    let session = session(&store, &shared("")).await;
    let row = session.query_one("SELECT statement, lock, memory FROM settings", &[]).await.unwrap();
    assert_eq!([row.get::<_, &str>(0), row.get(1), row.get(2)], ["30s", "5s", "5MB"]);
    store.remove().await.unwrap();
    let error = database("colour: red").connect(Arc::new(SystemClock)).await.unwrap_err();
    assert!(error.message().contains(r#"unrecognized configuration parameter "colour""#), "{error:?}");
}

async fn configured() {
    let config: DatabaseConfig = shared("tuning_sql=ALTER TABLE jub SET (fillfactor = 50)").parse().unwrap();
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    let error = store.database().initialise_schema().await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Backend, Outcome::Unknown), "{error:?}");
    assert!(error.message().contains("tuning_sql") && error.message().contains("jub"), "{error:?}");
    let database = handle(&store, &shared("revert_sql=SET search_path = public; SELECT nothing FROM nowhere")).await;
    database.execute_ingestion_query_batch(&batch([insert("a", "js")])).await.unwrap();
    let error = database.tear_down().await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Backend, Outcome::Unknown), "{error:?}");
    assert!(error.message().starts_with("all data are removed; then: revert_sql: "), "{error:?}");
    assert!(all_jobs(&*database).await.is_empty());

    // Without the table of deferred indexes there are none to recreate.
    let session = session(&store, &shared("")).await;
    session.batch_execute("DROP TABLE broadside_deferred_index").await.unwrap();
    let other = handle(&store, &shared("")).await;
    other.tear_down().await.unwrap();
    store.remove().await.unwrap();
}
