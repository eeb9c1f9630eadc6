//! What only a real PostgreSQL server can do to a client: it is killed, it is full, it makes
//! transactions wait for each other, it ends connections.

mod support;

use std::future::Future;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use broadside::ingest::{
    IngestionBatch, IngestionQuery, InsertJob, InsertJobRun, NewJob, SetJobPreempted, SetJobRunning, SetJobSucceeded,
    UpdateJobPriority,
};
use broadside::{
    Database, DatabaseConfig, Error, ErrorKind, GetJobGroupsRequest, GetJobsRequest, GroupQuery, GroupedField, Job,
    JobQuery, JobState, Order, Outcome, POSTGRES_URL_VARIABLE, ScratchStore, SystemClock, Timestamp,
};
use libtest_mimic::{Arguments, Failed, Trial};
use support::backends::{Backend, is_ci, runtime};
use tokio_postgres::NoTls;

/// How many jobs a batch of [`job_set`] inserts.
const JOBS: usize = 40;

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = vec![
        trial("a-killed-server-loses-and-halves-nothing", killed_server),
        trial("a-server-that-is-down-is-unavailable-until-it-is-back", down_server),
        trial("terminated-backends-are-replaced", terminated_backends),
        trial("a-full-server-is-waited-for", full_server),
        trial("dropped-calls-leave-no-transaction", dropped_calls),
        trial("calls-share-a-connection", shared_connection),
        trial("a-deadlock-is-repeated", deadlock),
        trial("many-handles-initialise-one-schema", initialise_at_once),
        trial("a-schema-is-used-in-its-layout-alone", kept_layout),
        trial("tuning-is-applied-and-reverted", tuning),
        trial("a-slow-statement-times-out", statement_timeout),
        trial("a-busy-pool-is-unavailable", busy_pool),
        trial("a-refused-password-is-not-shown", wrong_password),
        trial("tls-is-what-sslmode-says", tls),
        trial("order-is-bytewise-in-any-locale", other_locale),
    ];
    for layout in LAYOUTS {
        let name = |test: &str| format!("{test}::{}", layout.name);
        trials.push(trial(&name("an-update-is-decided-when-the-job-is-free"), move || contended_job(layout)));
        trials.push(trial(&name("workers-in-opposite-orders-end-every-job"), move || opposite_orders(layout)));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// A layout of the tables.
#[derive(Clone, Copy)]
struct Layout {
    name: &'static str,
    parameter: &'static str,
    /// Ends, as another worker would, all jobs but `untouched`.
    end_jobs: &'static str,
}

const LAYOUTS: [Layout; 3] = [
    Layout { name: "lookout", parameter: "", end_jobs: "UPDATE job SET state = 4 WHERE job_id <> 'untouched'" },
    Layout {
        name: "hot-cold",
        parameter: "hot_cold_split=true",
        end_jobs: "UPDATE job SET state = 4 WHERE job_id <> 'untouched';
            WITH ended AS (DELETE FROM job WHERE state = 4 RETURNING *) INSERT INTO job_historical SELECT * FROM ended",
    },
    Layout {
        name: "partitioned",
        parameter: "partition_by_submitted=true",
        end_jobs: "UPDATE job SET state = 4 WHERE job_id <> 'untouched'",
    },
];

fn trial<F: Future<Output = ()>>(name: &str, test: impl FnOnce() -> F + Send + 'static) -> Trial {
    let missing = Backend::POSTGRES.missing_variable();
    let run = move || match missing {
        Some(variable) => Err(Failed::from(format!("{variable} is not set, so there is no PostgreSQL to test"))),
        None => {
            runtime().block_on(test());
            Ok(())
        }
    };
    Trial::test(format!("postgres::{name}"), run).with_ignored_flag(missing.is_some() && !is_ci())
}

/// A server that a test may kill.
struct Server {
    directory: PathBuf,
    address: String,
    /// The certificate of the authority that signed the server's.
    authority: String,
}

impl Server {
    fn start(name: &str, options: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("servers").join(name);
        let mut server = Self { directory, address: String::new(), authority: String::new() };
        let printed = String::from_utf8(server.script("start", options).stdout).unwrap();
        let value = |name: &str| {
            let line = printed.lines().find_map(|line| line.strip_prefix(&format!("export {name}='")));
            line.unwrap().trim_end_matches('\'').to_owned()
        };
        server.address = value(POSTGRES_URL_VARIABLE);
        server.authority = value("BROADSIDE_POSTGRES_CA");
        server
    }

    fn kill(&self) {
        self.script("kill", "");
    }

    fn resume(&self) {
        self.script("resume", "");
    }

    fn script(&self, command: &str, options: &str) -> Output {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/servers/postgres.sh");
        let mut command_line = Command::new(script);
        command_line.arg(command).arg(&self.directory).env("EXTRA_OPTIONS", options);
        let output = tokio::task::block_in_place(|| command_line.output()).unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.script("stop", "");
    }
}

/// The address of the tests' server, with further parameters.
fn shared(parameters: &str) -> String {
    with(&std::env::var(POSTGRES_URL_VARIABLE).unwrap(), parameters)
}

fn with(address: &str, parameters: &str) -> String {
    if parameters.is_empty() {
        return address.to_owned();
    }
    format!("{address}{}{parameters}", if address.contains('?') { '&' } else { '?' })
}

/// A store of its own, with a schema.
async fn store(address: &str) -> ScratchStore {
    let config: DatabaseConfig = address.parse().unwrap();
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    store.database().initialise_schema().await.unwrap();
    store
}

/// A further handle to a store, with other parameters.
async fn handle(store: &ScratchStore, address: &str) -> Arc<dyn Database> {
    let address = with(address, &format!("schema={}", schema(store)));
    address.parse::<DatabaseConfig>().unwrap().connect(Arc::new(SystemClock)).await.unwrap()
}

fn schema(store: &ScratchStore) -> String {
    let shown = format!("{:?}", store.config());
    let (_, rest) = shown.split_once("schema: Some(\"").unwrap();
    rest.split_once('"').unwrap().0.to_owned()
}

/// A session of the test's own on the server, in the store's schema.
async fn session(store: &ScratchStore, address: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::connect(address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("SET search_path = {}", schema(store))).await.unwrap();
    client
}

/// Waits until the server says yes.
async fn until(session: &tokio_postgres::Client, question: &str) {
    loop {
        if session.query_one(question, &[]).await.unwrap().get(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a connection of the application waits for a lock.
async fn until_blocked(session: &tokio_postgres::Client, application: &str) {
    let question = format!(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '{application}' AND wait_event_type = 'Lock')"
    );
    until(session, &question).await;
}

fn batch(queries: impl IntoIterator<Item = IngestionQuery>) -> IngestionBatch {
    IngestionBatch::new(queries).unwrap()
}

fn insert(job_id: &str, job_set: &str) -> IngestionQuery {
    let job = NewJob {
        job_id: job_id.to_owned(),
        queue: "queue".to_owned(),
        job_set: job_set.to_owned(),
        owner: "owner".to_owned(),
        namespace: None,
        priority: 0,
        priority_class: None,
        submitted: Timestamp::from_seconds(0),
        cpu: 1,
        memory: 1,
        ephemeral_storage: 1,
        gpu: 0,
        annotations: [("key".to_owned(), "value".to_owned())].into(),
    };
    InsertJob { job, job_spec: None }.into()
}

/// A job set whose jobs have a run each, to be seen whole or not at all.
fn job_set(name: &str) -> IngestionBatch {
    batch((0..JOBS).flat_map(|job| {
        let job_id = format!("{name}-{job:02}");
        let run = InsertJobRun {
            job_run_id: format!("{job_id}-0"),
            job_id: job_id.clone(),
            cluster: "cluster".to_owned(),
            node: None,
            pool: None,
            time: Timestamp::from_seconds(1),
            submitted: None,
        };
        [insert(&job_id, name), run.into()]
    }))
}

fn running(job_id: &str) -> IngestionQuery {
    let time = Timestamp::from_seconds(2);
    SetJobRunning { job_id: job_id.to_owned(), time, latest_run_id: "run".to_owned(), submitted: None }.into()
}

fn succeeded(job_id: &str) -> IngestionQuery {
    SetJobSucceeded { job_id: job_id.to_owned(), time: Timestamp::from_seconds(3), submitted: None }.into()
}

fn preempted(job_id: &str) -> IngestionQuery {
    SetJobPreempted { job_id: job_id.to_owned(), time: Timestamp::from_seconds(4), submitted: None }.into()
}

fn priority(job_id: &str, priority: i64) -> IngestionQuery {
    UpdateJobPriority { job_id: job_id.to_owned(), priority, submitted: None }.into()
}

async fn jobs(database: &dyn Database) -> Vec<Job> {
    let request = GetJobsRequest { order: Order::ascending("jobId"), ..GetJobsRequest::default() };
    database.get_jobs(&JobQuery::try_from(request).unwrap()).await.unwrap()
}

/// The names of the job sets, each of which must be whole.
async fn whole_job_sets(database: &dyn Database) -> Vec<String> {
    let request = GetJobGroupsRequest {
        grouped_field: GroupedField::field("jobSet"),
        order: Order::ascending("jobSet"),
        ..GetJobGroupsRequest::default()
    };
    let groups = database.get_job_groups(&GroupQuery::try_from(request).unwrap()).await.unwrap();
    assert!(groups.iter().all(|group| group.count == JOBS as u64), "a batch was halved: {groups:?}");
    assert!(jobs(database).await.iter().all(|job| job.runs.len() == 1), "a batch was halved");
    groups.into_iter().map(|group| group.name.into()).collect()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("set-{number:03}")).collect()
}

/// Writes job sets one after the other and counts them.
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
    let server = Server::start("killed", "");
    let store = store(&with(&server.address, "connect_timeout=60")).await;
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
    let server = Server::start("down", "");
    let store = store(&with(&server.address, "connect_timeout=2")).await;
    let database = store.database();
    database.execute_ingestion_query_batch(&job_set("before")).await.unwrap();
    server.kill();
    let error = database.execute_ingestion_query_batch(&job_set("meanwhile")).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied), "{error:?}");
    let error = database.get_job_error("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
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
    let server = Server::start("full", limits);
    let store = store(&with(&server.address, "connect_timeout=2&pool_size=1")).await;
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(session(&store, &server.address).await);
    }
    let error = store.config().connect(Arc::new(SystemClock)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    sessions.truncate(1);
    // More calls at once than the server has connections for: each gets its turn.
    let crowd = handle(&store, &with(&server.address, "connect_timeout=60&pool_size=12")).await;
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

/// An update that meets a job which another transaction is just changing waits, and is then
/// decided for the job as it has become; a second insert is still a second one.
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

    let jobs = jobs(&**store.database()).await;
    assert!(jobs.iter().all(|job| job.job_set == "first"));
    let states: Vec<_> = jobs.iter().map(|job| (job.state, job.priority, job.last_active_run_id.as_deref())).collect();
    let expected =
        [(JobState::Succeeded, 0, None), (JobState::Preempted, 0, None), (JobState::Running, 0, Some("run"))];
    assert_eq!(states, expected);
    assert_eq!(jobs[0].last_transition_time, Timestamp::from_seconds(0));
    assert_eq!(jobs[1].last_transition_time, Timestamp::from_seconds(4));
    store.remove().await.unwrap();
}

/// One worker ends the jobs while another sets them running, in the opposite order.
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
    let jobs = jobs(&**database).await;
    assert_eq!(jobs.len(), 20 * 60);
    assert!(jobs.iter().all(|job| job.state == JobState::Succeeded));
    assert!(jobs.iter().all(|job| job.last_transition_time == Timestamp::from_seconds(3)));
    other.close().await.unwrap();
    store.remove().await.unwrap();
}

/// A batch that the server chooses as the victim of a deadlock is done again.
async fn deadlock() {
    let store = store(&shared("application_name=deadlocked")).await;
    let database = store.database();
    let (mut session, watcher) = (session(&store, &shared("")).await, session(&store, &shared("")).await);
    database.execute_ingestion_query_batch(&batch([insert("a", "js"), insert("b", "js")])).await.unwrap();

    let transaction = session.transaction().await.unwrap();
    // It never looks for a deadlock itself, so the batch is the one that finds it.
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

    let found: Vec<_> = jobs(&**database).await.iter().map(|job| (job.priority, job.gpu)).collect();
    assert_eq!(found, [(1, 7), (2, 7)]);
    store.remove().await.unwrap();
}

async fn initialise_at_once() {
    let config: DatabaseConfig = shared("").parse().unwrap();
    let store = config.create_scratch(Arc::new(SystemClock)).await.unwrap();
    let calls = (0..8).map(|_| {
        let config = store.config().clone();
        tokio::spawn(async move { config.connect(Arc::new(SystemClock)).await?.initialise_schema().await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap().unwrap();
    }
    let session = session(&store, &shared("")).await;
    let applied = session.query_one("SELECT count(*) = max(version) FROM broadside_migration", &[]).await.unwrap();
    assert!(applied.get::<_, bool>(0), "a migration was applied twice or not at all");
    store.remove().await.unwrap();
}

/// Lookout's tables can be split in place. No other way leads from one layout to another, and to
/// use a schema in a layout that it has not would miss jobs.
async fn kept_layout() {
    let store = store(&shared("")).await;
    let database = store.database();
    database
        .execute_ingestion_query_batch(&batch([insert("a", "js"), insert("b", "js"), succeeded("b")]))
        .await
        .unwrap();
    let before = jobs(&**database).await;
    let [_, split, partitioned] = LAYOUTS;
    let refused = async |layout: Layout| {
        let other = handle(&store, &shared(layout.parameter)).await;
        let error = other.initialise_schema().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend, "{error:?}");
        other.close().await.unwrap();
    };
    refused(partitioned).await;
    let other = handle(&store, &shared(split.parameter)).await;
    other.initialise_schema().await.unwrap();
    assert_eq!(jobs(&*other).await, before);
    assert_eq!(jobs(&**database).await, before[..1]);
    other.close().await.unwrap();
    refused(LAYOUTS[0]).await;
    refused(partitioned).await;
    store.remove().await.unwrap();
}

async fn tuning() {
    let tuning = "tuning_sql=ALTER TABLE job SET (autovacuum_enabled = off); ALTER TABLE job_run SET (fillfactor = 50)";
    let revert = "revert_sql=ALTER TABLE job RESET (autovacuum_enabled)";
    let store = store(&shared(&format!("{tuning}&{revert}"))).await;
    let session = session(&store, &shared("")).await;
    let options = "SELECT array_to_string(reloptions, ',') FROM pg_class WHERE oid = $1::text::regclass";
    let options_of = async |table: &str| session.query_one(options, &[&table]).await.unwrap().get::<_, String>(0);
    assert_eq!(options_of("job").await, "fillfactor=70,autovacuum_enabled=off");
    assert_eq!(options_of("job_run").await, "fillfactor=50");
    store.database().tear_down().await.unwrap();
    assert_eq!(options_of("job").await, "fillfactor=70");
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
    assert_eq!(jobs(&**database).await[0].priority, 2);
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
    let server = Server::start("password", "");
    let address = server.address.replace(":broadside@", ":hunter2@");
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
    let server = Server::start("tls", "");
    let address = server.address.split('?').next().unwrap();
    let by_number = address.replace("@localhost:", "@127.0.0.1:");
    let authority = format!("sslrootcert={}", server.authority);
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
        // No authority that browsers know has signed the certificate.
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

/// In English, "a" comes before "B" and "_" before both.
async fn other_locale() {
    let server = Server::start("locale", "");
    let (session, connection) = tokio_postgres::connect(&server.address, NoTls).await.unwrap();
    tokio::spawn(connection);
    let create = "CREATE DATABASE english LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0";
    session.batch_execute(create).await.unwrap();

    let store = store(&with(&server.address, "dbname=english")).await;
    let texts = ["B", "_", "a", "é"];
    let inserts = texts.map(|text| {
        let IngestionQuery::InsertJob(mut query) = insert(text, text) else { unreachable!() };
        query.job.annotations = [("key".to_owned(), text.to_owned())].into();
        query.into()
    });
    store.database().execute_ingestion_query_batch(&batch(inserts)).await.unwrap();
    let found: Vec<_> = jobs(&**store.database()).await.into_iter().map(|job| job.job_id).collect();
    assert_eq!(found, texts);
    for field in [GroupedField::field("jobSet"), GroupedField::annotation("key")] {
        let order = Order::descending(&field.field);
        let request = GetJobGroupsRequest { grouped_field: field, order, ..GetJobGroupsRequest::default() };
        let groups = store.database().get_job_groups(&GroupQuery::try_from(request).unwrap()).await.unwrap();
        let found: Vec<_> = groups.into_iter().rev().map(|group| group.name).collect();
        assert_eq!(found, texts);
    }
    store.remove().await.unwrap();
}
