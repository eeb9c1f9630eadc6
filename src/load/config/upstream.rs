//! Conversion of the configuration for the result file of Armada's Broadside.

use super::database::{LoadDatabase, LoadTarget};
use super::types::{ActionConfig, HistoricalJobsConfig, IngestionConfig, JobSetConfig, LoadConfig, QueueConfig};
use crate::error::BackendKind;
use crate::load::upstream::{self, Configuration, DatabaseType, GoDuration};

impl LoadConfig {
    /// The configuration for the result file of Armada's Broadside.
    pub fn upstream(&self) -> Configuration {
        let queries = &self.queries;
        Configuration {
            test_duration: GoDuration(self.test_duration),
            warmup_duration: GoDuration(self.warmup_duration),
            database_config: database(&self.database),
            queue_config: self.queues.iter().map(queue).collect(),
            ingestion_config: ingestion(&self.ingestion),
            query_config: upstream::QueryConfig {
                get_job_run_debug_message_queries_per_hour: queries.get_job_run_debug_message_queries_per_hour,
                get_job_run_error_queries_per_hour: queries.get_job_run_error_queries_per_hour,
                get_job_spec_queries_per_hour: queries.get_job_spec_queries_per_hour,
                get_jobs_queries_per_hour: queries.get_jobs_queries_per_hour,
                get_jobs_page_size: queries.get_jobs_page_size,
                get_job_groups_queries_per_hour: queries.get_job_groups_queries_per_hour,
                get_job_groups_page_size: queries.get_job_groups_page_size,
            },
            actions_config: self.upstream_actions(),
        }
    }

    fn upstream_actions(&self) -> Option<upstream::ActionsConfig> {
        let actions = upstream::ActionsConfig {
            job_set_reprioritisations: self.actions.job_set_reprioritisations.iter().map(action).collect(),
            job_set_cancellations: self.actions.job_set_cancellations.iter().map(action).collect(),
        };
        let any = !actions.job_set_reprioritisations.is_empty() || !actions.job_set_cancellations.is_empty();
        any.then_some(actions)
    }
}

fn database(database: &LoadDatabase) -> upstream::DatabaseConfig {
    let database_type = match database.target {
        LoadTarget::Memory | LoadTarget::External(BackendKind::Memory) => DatabaseType::InMemory,
        LoadTarget::Postgres(_) | LoadTarget::External(BackendKind::Postgres) => DatabaseType::Postgres,
        LoadTarget::ClickHouse(_) | LoadTarget::External(BackendKind::ClickHouse) => DatabaseType::ClickHouse,
        LoadTarget::External(BackendKind::Other(_)) => DatabaseType::Other,
    };
    upstream::DatabaseConfig {
        database_type,
        connection_string: match database_type {
            DatabaseType::InMemory | DatabaseType::Other => String::new(),
            DatabaseType::Postgres | DatabaseType::ClickHouse => database.address(),
        },
        tuning_sql: database.tuning_sql.clone(),
        tuning_revert_sql: database.tuning_revert_sql.clone(),
    }
}

fn queue(queue: &QueueConfig) -> upstream::QueueConfig {
    let job_set_config = queue.job_sets.iter().map(job_set).collect();
    upstream::QueueConfig { name: queue.name.clone(), proportion: queue.proportion, job_set_config }
}

fn job_set(set: &JobSetConfig) -> upstream::JobSetConfig {
    upstream::JobSetConfig {
        name: set.name.clone(),
        proportion: set.proportion,
        historical_jobs_config: (set.historical.number_of_jobs > 0).then(|| historical(&set.historical)),
    }
}

fn historical(jobs: &HistoricalJobsConfig) -> upstream::HistoricalJobsConfig {
    upstream::HistoricalJobsConfig {
        number_of_jobs: jobs.number_of_jobs,
        proportion_succeeded: jobs.proportion_succeeded,
        proportion_errored: jobs.proportion_errored,
        proportion_cancelled: jobs.proportion_cancelled,
        proportion_preempted: jobs.proportion_preempted,
    }
}

fn ingestion(ingestion: &IngestionConfig) -> upstream::IngestionConfig {
    let transitions = &ingestion.transitions;
    upstream::IngestionConfig {
        batch_size: ingestion.batch_size,
        num_workers: ingestion.num_workers,
        submissions_per_hour: ingestion.submissions_per_hour,
        job_state_transition_config: Some(upstream::JobStateTransitionConfig {
            queueing_duration: GoDuration(transitions.queueing_duration),
            leased_duration: GoDuration(transitions.leased_duration),
            pending_duration: GoDuration(transitions.pending_duration),
            proportion_succeed: transitions.proportion_succeed,
            running_to_success_duration: GoDuration(transitions.running_to_success_duration),
            proportion_fail: transitions.proportion_fail,
            running_to_failure_duration: GoDuration(transitions.running_to_failure_duration),
        }),
    }
}

fn action(action: &ActionConfig) -> upstream::ActionConfig {
    upstream::ActionConfig {
        perform_after_test_start_time: GoDuration(action.perform_after_test_start_time),
        queue: action.queue.clone(),
        job_set: action.job_set.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::load::fixtures::config;

    fn upstream(overrides: &str) -> Value {
        serde_json::to_value(config(overrides).upstream()).unwrap()
    }

    #[test]
    fn actions_are_left_out_if_there_are_none() {
        assert_eq!(upstream("")["actionsConfig"], Value::Null);
        for (kind, other) in
            [("jobSetReprioritisations", "jobSetCancellations"), ("jobSetCancellations", "jobSetReprioritisations")]
        {
            let action = "[{performAfterTestStartTime: 1500ms, queue: q, jobSet: s}]";
            let file = upstream(&format!("actionsConfig: {{{kind}: {action}}}"));
            let expected = json!([{"performAfterTestStartTime": "1.5s", "queue": "q", "jobSet": "s"}]);
            assert_eq!(file["actionsConfig"][kind], expected);
            let others = &file["actionsConfig"][other];
            assert!(others.is_null() || *others == json!([]), "{others}");
        }
    }
}
