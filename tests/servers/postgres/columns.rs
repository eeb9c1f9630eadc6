//! Tables and values of a later version of Lookout, beside a running process.

use broadside::ingest::InsertJob;
use broadside::query::{Direction, GroupField, GroupOrderKey};
use broadside::{GroupQuery, Job, JobState, Timestamp};
use libtest_mimic::Trial;
use serde_json::json;

use super::trial;
use crate::support::jobs::{all_jobs, plain_job};
use crate::support::postgres::{
    LAYOUTS, Layout, batch, handle, insert, job_set, running, session, shared, store, succeeded,
};
use crate::support::server::with;

pub fn trials() -> Vec<Trial> {
    let mut trials = vec![
        trial("a-split-and-a-move-keep-the-columns-of-others", kept_columns),
        trial("a-day-that-was-dropped-has-no-jobs", dropped_day),
    ];
    for layout in LAYOUTS {
        let name = |test: &str| format!("{test}::{}", layout.name);
        trials.push(trial(&name("columns-come-go-and-move"), move || moving_columns(layout)));
        trials.push(trial(&name("an-odd-value-does-not-fail-its-page"), move || odd_values(layout)));
    }
    trials
}

/// Moves a column of a table to the end.
const MOVE: &str = r#"
    ALTER TABLE job ADD COLUMN moved varchar(512) COLLATE "C"; UPDATE job SET moved = owner;
    ALTER TABLE job DROP COLUMN owner; ALTER TABLE job RENAME moved TO owner; ALTER TABLE job ALTER owner SET NOT NULL;"#;

/// Each change of a table, after which the same session must write and read.
fn changes(layout: Layout) -> Vec<String> {
    let mut changes = vec![
        "ALTER TABLE job ADD COLUMN preempt_user varchar(512), ADD COLUMN n integer NOT NULL DEFAULT 7".to_owned(),
        "ALTER TABLE job DROP COLUMN external_job_uri".to_owned(),
        "ALTER TABLE job_run DROP COLUMN ingress_addresses, ADD COLUMN n integer, ALTER node TYPE text".to_owned(),
        "ALTER TABLE job_spec ADD COLUMN n integer; ALTER TABLE job_error ADD COLUMN n integer".to_owned(),
    ];
    if layout.name == "hot-cold" {
        let columns = "(SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
            WHERE table_schema = current_schema() AND table_name = 'job_historical' AND column_name <> 'external_job_uri')";
        changes.push(format!(
            "DO $$ DECLARE columns text := {columns}; BEGIN
                DROP VIEW job_all;
                {MOVE}
                EXECUTE format('CREATE VIEW job_all AS SELECT %1$s FROM job UNION ALL SELECT %1$s FROM job_historical', columns);
            END $$"
        ));
    } else {
        changes.push(MOVE.to_owned());
        // The type of a column of cached statements.
        changes.push("ALTER TABLE job ALTER owner TYPE varchar(600), ALTER namespace TYPE text".to_owned());
    }
    changes
}

async fn moving_columns(layout: Layout) {
    let store = store(&with(&shared(layout.parameter), "pool_size=1")).await;
    let (database, session) = (store.database(), session(&store, &shared("")).await);
    let mut written = 0;
    let mut write_and_read = async || {
        let ids = ["active", "ended"].map(|kind| format!("{kind}-{written}"));
        written += 1;
        let jobs = [insert(&ids[0], "js"), running(&ids[0]), insert(&ids[1], "js"), running(&ids[1])];
        database.execute_ingestion_query_batch(&batch(jobs)).await.unwrap();
        database.execute_ingestion_query_batch(&batch([succeeded(&ids[1])])).await.unwrap();
        let jobs = all_jobs(&**database).await;
        assert_eq!(jobs.len(), 2 * written);
        for job in jobs {
            let expected = if job.job_id.starts_with("active") { JobState::Running } else { JobState::Succeeded };
            let texts = [&job.queue, &job.owner, &job.job_set].map(|text| text.as_str());
            assert_eq!((job.state, texts), (expected, ["queue", "owner", "js"]), "{job:?}");
            assert_eq!(job.last_active_run_id.as_deref(), Some("run"));
        }
    };
    write_and_read().await;
    for change in changes(layout) {
        session.batch_execute(&change).await.unwrap();
        write_and_read().await;
    }
    store.remove().await.unwrap();
}

/// Columns that this backend does not use: Lookout's, a generated one and an identity.
async fn kept_columns() {
    let store = store(&shared("")).await;
    let session = session(&store, &shared("")).await;
    let columns = "ALTER TABLE job ADD COLUMN twice bigint GENERATED ALWAYS AS (priority * 2) STORED,
        ADD COLUMN serial bigint GENERATED ALWAYS AS IDENTITY";
    session.batch_execute(columns).await.unwrap();
    let batches =
        [batch([insert("old", "js"), insert("new", "js")]), batch([succeeded("old")]), batch([succeeded("new")])];
    let [inserts, old, new] = &batches;
    for written in [inserts, old] {
        store.database().execute_ingestion_query_batch(written).await.unwrap();
    }
    session.batch_execute("UPDATE job SET external_job_uri = 'uri of ' || job_id, priority = 21").await.unwrap();
    let serials = "SELECT array_agg(serial ORDER BY job_id) FROM";
    let before: Vec<i64> = session.query_one(&format!("{serials} job"), &[]).await.unwrap().get(0);
    let split = handle(&store, &shared("hot_cold_split=true")).await;
    split.initialise_schema().await.unwrap();
    split.execute_ingestion_query_batch(new).await.unwrap();
    let rows = session
        .query("SELECT job_id || ': ' || external_job_uri || ', ' || twice FROM job_historical ORDER BY 1", &[])
        .await
        .unwrap();
    let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(rows, ["new: uri of new, 42", "old: uri of old, 42"]);
    let after: Vec<i64> = session.query_one(&format!("{serials} job_historical"), &[]).await.unwrap().get(0);
    assert_eq!(after, before);
    store.remove().await.unwrap();
}

/// An administrator drops the partition of a day.
async fn dropped_day() {
    let store = store(&shared("partition_by_submitted=true")).await;
    let (database, session) = (store.database(), session(&store, &shared("")).await);
    let mut later = plain_job("later", "js");
    later.submitted = Timestamp::from_seconds(86_400);
    let later = InsertJob { job: later, job_spec: None }.into();
    database.execute_ingestion_query_batch(&batch([insert("dropped", "js"), later])).await.unwrap();
    session.batch_execute("DROP TABLE job_1970_01_01").await.unwrap();
    database.execute_ingestion_query_batch(&batch([succeeded("dropped"), succeeded("later")])).await.unwrap();
    let jobs = all_jobs(&**database).await;
    let jobs: Vec<_> = jobs.iter().map(|job| (job.job_id.as_str(), job.state)).collect();
    assert_eq!(jobs, [("later", JobState::Succeeded)]);
    store.remove().await.unwrap();
}

/// Values that no batch can contain, in a page with other jobs.
async fn odd_values(layout: Layout) {
    let store = store(&shared(layout.parameter)).await;
    let (database, session) = (store.database(), session(&store, &shared("")).await);
    database.execute_ingestion_query_batch(&job_set("js")).await.unwrap();
    let before = all_jobs(&**database).await;
    let odd = r#"
        UPDATE job SET state = 77, cancelled = 'infinity', last_transition_time = '12345-06-07', annotations = '{"a": 1, "b": "x"}'
            WHERE job_id = 'js-00';
        UPDATE job SET cancelled = '0044-03-15 BC', annotations = '["b"]' WHERE job_id = 'js-01';
        UPDATE job_run SET job_run_state = 13, leased = '-infinity', pending = '0044-03-15 BC', started = '0001-01-01',
            finished = 'infinity' WHERE job_id = 'js-00';
        UPDATE job_run SET job_run_state = -1, finished = '12345-01-01' WHERE job_id = 'js-01'"#;
    session.batch_execute(odd).await.unwrap();
    let first = json!("1900-01-01T00:00:00Z");
    let last = json!("2299-12-31T23:59:59.999999Z");
    let after = all_jobs(&**database).await;
    assert_eq!(after[2..], before[2..]);
    let shown = |job: &Job| serde_json::to_value(job).unwrap();
    let [mut one, mut two] = [shown(&before[0]), shown(&before[1])];
    one["state"] = json!("UNKNOWN_77");
    one["cancelled"] = last.clone();
    one["lastTransitionTime"] = last.clone();
    one["annotations"] = json!({"a": "1", "b": "x"});
    for (field, value) in [("leased", &first), ("pending", &first), ("started", &first), ("finished", &last)] {
        one["runs"][0][field] = value.clone();
    }
    one["runs"][0]["jobRunState"] = json!("UNKNOWN_13");
    // 400 years are 146,097 days.
    one["runtimeSeconds"] = json!(146_097i64 * 86_400);
    two["cancelled"] = first.clone();
    two["annotations"] = json!({});
    two["runs"][0]["jobRunState"] = json!("UNKNOWN_-1");
    two["runs"][0]["finished"] = last.clone();
    assert_eq!([shown(&after[0]), shown(&after[1])], [one.clone(), two]);
    assert_eq!(serde_json::from_value::<Job>(one).unwrap(), after[0]);

    let query = GroupQuery::by(GroupField::State).order_by(GroupOrderKey::Count, Direction::Ascending);
    let groups = database.get_job_groups(&query).await.unwrap();
    let groups: Vec<_> = groups.iter().map(|group| (group.name.as_str(), group.count)).collect();
    assert_eq!(groups, [("UNKNOWN_77", 1), ("QUEUED", before.len() as u64 - 1)]);
    // In a list the key has no text.
    let groups = database.get_job_groups(&GroupQuery::by_annotation("b")).await.unwrap();
    let groups: Vec<_> = groups.iter().map(|group| (group.name.as_str(), group.count)).collect();
    assert_eq!(groups, [("x", 1)]);
    store.remove().await.unwrap();
}
