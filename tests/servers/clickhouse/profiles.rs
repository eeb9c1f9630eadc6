//! Users whose profile has settings that results depend on, users who may not change settings, and users with TLS.

use std::process::Command;
use std::sync::Arc;

use super::trial;
use crate::support::jobs::{all_jobs, plain_job};
use crate::support::server::{Server, with};
use broadside::ingest::{
    IngestionBatch, IngestionQuery, InsertJob, InsertJobError, InsertJobRun, SetJobRunning, SetJobSucceeded,
};
use broadside::query::{GroupField, TimeAggregate};
use broadside::{Database, DatabaseConfig, Error, ErrorKind, GroupQuery, JobState, Outcome, SystemClock, Timestamp};
use libtest_mimic::Trial;
use tokio::task::block_in_place;

/// Each of these settings alone would make results wrong.
const PROFILES: [&str; 26] = [
    "join_use_nulls=1",
    "aggregate_functions_null_for_empty=1",
    "data_type_default_nullable=1",
    "describe_compact_output=1",
    "describe_include_subcolumns=1",
    "use_query_cache=1",
    "limit=1",
    "offset=1",
    "limit=1\noffset=1",
    "max_result_rows=1\nresult_overflow_mode=break\nmax_block_size=1",
    "max_rows_to_read=1\nread_overflow_mode=break",
    "max_rows_to_group_by=1\ngroup_by_overflow_mode=any",
    "max_rows_to_sort=1\nsort_overflow_mode=break",
    "max_rows_in_set=1\nset_overflow_mode=break",
    "max_rows_in_join=1\njoin_overflow_mode=break",
    "additional_result_filter=0",
    "additional_table_filters={'job': 'false'}",
    "extremes=1",
    "final=1",
    "use_skip_indexes_if_final=1\nuse_skip_indexes_if_final_exact_mode=0",
    "apply_patch_parts=0",
    "group_by_use_nulls=1",
    "output_format_binary_encode_types_in_binary_format=1",
    "async_insert=1\nwait_for_async_insert=0",
    "prefer_column_name_to_alias=1",
    "transform_null_in=1",
];

/// The profiles with a limit: exceeding it is an error instead of truncating the result.
const LIMITS: [&str; 5] =
    ["max_result_rows", "max_rows_to_read", "max_rows_to_group_by", "max_rows_to_sort", "max_rows_in_"];

pub fn trials() -> Vec<Trial> {
    vec![
        trial("no-profile-makes-a-result-wrong", any_profile),
        trial("a-read-only-user-with-a-safe-profile-can-read", read_only),
        trial("tls-verifies-the-server-and-the-user", tls),
        trial("the-address-cannot-choose-another-database", redirected),
    ]
}

async fn connect(address: &str) -> Result<Arc<dyn Database>, Error> {
    address.parse::<DatabaseConfig>()?.connect(Arc::new(SystemClock)).await
}

const JOBS: usize = 3;

/// A batch that inserts jobs with a run each and ends them. Repeating it changes nothing.
fn ended(prefix: &str) -> IngestionBatch {
    let queries = (0..JOBS).flat_map(|number| {
        let (job_id, run_id) = (format!("{prefix}-{number}"), format!("{prefix}-{number}-r"));
        let time = Timestamp::from_seconds(1);
        let run = InsertJobRun {
            job_run_id: run_id.clone(),
            job_id: job_id.clone(),
            cluster: "cluster".to_owned(),
            node: None,
            pool: None,
            time,
            submitted: None,
        };
        let error = InsertJobError { job_id: job_id.clone(), error: Some(b"error".to_vec().into()), submitted: None };
        [
            IngestionQuery::from(InsertJob { job: plain_job(&job_id, prefix), job_spec: None }),
            run.into(),
            error.into(),
            SetJobRunning { job_id: job_id.clone(), time, latest_run_id: run_id, submitted: None }.into(),
            SetJobSucceeded { job_id, time, submitted: None }.into(),
        ]
    });
    IngestionBatch::new(queries).unwrap()
}

/// Asserts the results of a handle after such batches. Returns the number of jobs.
async fn jobs(database: &dyn Database) -> Result<usize, Error> {
    let jobs = all_jobs(database).await;
    for job in &jobs {
        assert_eq!((job.state, job.runs.len(), job.cluster.as_str()), (JobState::Succeeded, 1, "cluster"), "{job:?}");
        assert_eq!(database.get_job_error(&job.job_id).await?, "error");
    }
    for field in [GroupField::Cluster, GroupField::Node, GroupField::State] {
        let query = GroupQuery::by(field).count_states().submitted().last_transition_time(TimeAggregate::Average);
        let groups = database.get_job_groups(&query).await?;
        assert_eq!(groups.iter().map(|group| group.count).sum::<u64>(), jobs.len() as u64, "{groups:?}");
    }
    Ok(jobs.len())
}

async fn any_profile() {
    let server = Server::clickhouse("profiles", "");
    for layout in ["replacing", "patch"] {
        let address = with(&server.address().replace("/?", &format!("/{layout}?")), &format!("layout={layout}"));
        let first = connect(&address).await.unwrap();
        first.initialise_schema().await.unwrap();
        first.execute_ingestion_query_batch(&ended("first")).await.unwrap();
        for (number, profile) in (2..).zip(PROFILES) {
            server.set_profile(profile);
            let outcome = async {
                let database = connect(&address).await?;
                database.initialise_schema().await?;
                database.execute_ingestion_query_batch(&ended(&format!("set-{number:02}"))).await?;
                // The jobs have ended, so nothing changes.
                database.execute_ingestion_query_batch(&ended("first")).await
            };
            let outcome = outcome.await;
            server.set_profile("");
            if let Err(error) = outcome {
                let limited = LIMITS.iter().any(|limit| profile.contains(limit));
                assert!(limited && error.kind() == ErrorKind::Backend, "{layout}, {profile}: {error:?}");
                first.execute_ingestion_query_batch(&ended(&format!("set-{number:02}"))).await.unwrap();
            }
            assert_eq!(jobs(&*first).await.unwrap(), number * JOBS, "{layout}, written with {profile}");
            if !LIMITS.iter().any(|limit| profile.contains(limit)) {
                server.set_profile(profile);
                let database = connect(&address).await.unwrap();
                assert_eq!(jobs(&*database).await.unwrap(), number * JOBS, "{layout}, read with {profile}");
                server.set_profile("");
            }
        }
    }
}

async fn read_only() {
    let server = Server::clickhouse("readonly", "");
    let address = server.address().to_owned();
    let database = connect(&address).await.unwrap();
    database.initialise_schema().await.unwrap();
    database.execute_ingestion_query_batch(&ended("first")).await.unwrap();

    server.set_profile("readonly=1");
    let reader = connect(&address).await.unwrap();
    assert_eq!(jobs(&*reader).await.unwrap(), JOBS);
    let error = reader.execute_ingestion_query_batch(&ended("second")).await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Backend, Outcome::NotApplied), "{error:?}");
    let error = reader.tear_down().await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::Backend, Outcome::NotApplied), "{error:?}");

    // Such a user may change these two settings.
    server.set_profile("limit=1\noffset=1\nreadonly=1");
    assert_eq!(jobs(&*connect(&address).await.unwrap()).await.unwrap(), JOBS);

    for harmful in ["join_use_nulls=1", "use_query_cache=1", "result_overflow_mode=break", "apply_patch_parts=0"] {
        server.set_profile(&format!("{harmful}\nreadonly=1"));
        let error = connect(&address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend, "{harmful}: {error:?}");
        let (name, _) = harmful.split_once('=').unwrap();
        assert!(error.message().contains(name), "{harmful}: {error:?}");
    }
    server.set_profile("");
    assert_eq!(jobs(&*database).await.unwrap(), JOBS);
}

async fn tls() {
    let server = Server::clickhouse_with("tls", ("TLS", "1"));
    let file = |name: &str| server.directory().join("certificates").join(name).display().to_string();
    let (ca, client, key) = (file("ca.crt"), file("client.pem"), file("client.key"));
    let trusted = with(server.address(), &format!("ca_file={ca}"));
    let as_user = |address: &str| address.replace("//", "//default@");

    connect(&trusted).await.unwrap();
    connect(&as_user(&with(&trusted, &format!("cert_file={client}")))).await.unwrap();
    connect(&as_user(&with(&trusted, &format!("cert_file={}&key_file={key}", file("client.crt"))))).await.unwrap();

    // The environment is that of a process.
    let clean = |variable: &str, file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_broadside"));
        command.args(["clean", "--backend", server.address()]).env(variable, file);
        block_in_place(|| command.output()).unwrap().status.code()
    };
    assert_eq!(clean("SSL_CERT_FILE", &ca), Some(0));
    assert_eq!(clean("SSL_CERT_FILE", &key), Some(2));

    for (address, kind, message) in [
        // The server's certificate is not for this host, or its authority is unknown.
        (trusted.replace("localhost", "127.0.0.1"), ErrorKind::Backend, "TLS"),
        (server.address().to_owned(), ErrorKind::Backend, "TLS"),
        // The certificate is that of another user.
        (trusted.replace("//", "//other@") + &format!("&cert_file={client}"), ErrorKind::Backend, "refuses the user"),
        (with(server.address(), &format!("ca_file={key}")), ErrorKind::InvalidArgument, "ca_file"),
        (with(server.address(), "ca_file=/there/is/none"), ErrorKind::InvalidArgument, "ca_file"),
        (with(&trusted, "cert_file=/there/is/none"), ErrorKind::InvalidArgument, "private key"),
        (with(&trusted, &format!("key_file={key}")), ErrorKind::InvalidArgument, "cert_file"),
        (trusted.replace("https", "http"), ErrorKind::InvalidArgument, "clickhouse+https"),
    ] {
        let error = connect(&address).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{address}: {error:?}");
        assert!(error.message().contains(message) && !format!("{error:?}").contains("/there"), "{address}: {error:?}");
    }
}

async fn redirected() {
    for setting in ["database=other", "limit=1", "join_use_nulls=1", "profile=other", "default_format=JSON", "query=x"]
    {
        let error = format!("clickhouse+http://host/?setting.{setting}").parse::<DatabaseConfig>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{setting}: {error:?}");
    }
}
