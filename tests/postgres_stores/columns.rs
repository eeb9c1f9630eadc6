//! Tables and values of a later version of Lookout, beside a running process.

use broadside::JobState;
use libtest_mimic::Trial;

use crate::support::jobs::all_jobs;
use crate::support::postgres::{LAYOUTS, Layout, batch, insert, running, session, shared, store, succeeded};
use crate::support::server::with;
use crate::trial;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for layout in LAYOUTS {
        let name = |test: &str| format!("{test}::{}", layout.name);
        trials.push(trial(&name("columns-come-go-and-move"), move || moving_columns(layout)));
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
