-- The indexes of Lookout's `job`.

CREATE INDEX idx_job_active_queue_jobset ON job (queue, jobset) WITH (fillfactor = 80) WHERE state IN ({active});
CREATE INDEX idx_job_annotations_path ON job USING gin (annotations)
    WITH (fastupdate = true, gin_pending_list_limit = 33554432);
CREATE INDEX idx_job_jobset_pattern ON job (jobset varchar_pattern_ops) WITH (fillfactor = 80);
CREATE INDEX idx_job_latest_run_id ON job (latest_run_id) WITH (fillfactor = 80);
CREATE INDEX idx_job_ltt_jobid ON job (last_transition_time, job_id) WITH (fillfactor = 80);
CREATE INDEX idx_job_queue_jobset_state ON job (queue, jobset, state) WITH (fillfactor = 80);
CREATE INDEX idx_job_queue_last_transition_time_seconds ON job (queue, last_transition_time_seconds)
    WITH (fillfactor = 80);
CREATE INDEX idx_job_queue_namespace ON job (queue, namespace) WITH (fillfactor = 80);
CREATE INDEX idx_job_state ON job (state) WITH (fillfactor = 80);
CREATE INDEX idx_job_submitted ON job (submitted DESC);
