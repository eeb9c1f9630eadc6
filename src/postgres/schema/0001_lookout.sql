-- Lookout's tables as its own migrations leave them.
--
-- Texts are compared byte by byte whatever the server's locale; with the collation on the columns,
-- the indexes serve that order, and prefixes too.

CREATE TABLE job (
    job_id varchar(32) COLLATE "C" NOT NULL PRIMARY KEY,
    queue varchar(512) COLLATE "C" NOT NULL,
    owner varchar(512) COLLATE "C" NOT NULL,
    jobset varchar(1024) COLLATE "C" NOT NULL,
    cpu bigint NOT NULL,
    memory bigint NOT NULL,
    ephemeral_storage bigint NOT NULL,
    gpu bigint NOT NULL,
    priority bigint NOT NULL,
    submitted timestamp NOT NULL,
    cancelled timestamp,
    state smallint NOT NULL,
    last_transition_time timestamp NOT NULL,
    last_transition_time_seconds bigint NOT NULL,
    job_spec bytea,
    duplicate boolean NOT NULL DEFAULT false,
    priority_class varchar(63) COLLATE "C",
    latest_run_id varchar(36) COLLATE "C",
    cancel_reason varchar(512) COLLATE "C",
    namespace varchar(512) COLLATE "C",
    annotations jsonb,
    external_job_uri varchar(1024) COLLATE "C",
    cancel_user varchar(512) COLLATE "C"
) WITH (fillfactor = 70);

ALTER TABLE job ALTER COLUMN job_spec SET STORAGE EXTERNAL;

CREATE INDEX idx_job_active_queue_jobset ON job (queue, jobset) WITH (fillfactor = 80) WHERE state IN (1, 2, 3, 8);
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

CREATE TABLE job_run (
    run_id varchar(36) COLLATE "C" NOT NULL PRIMARY KEY,
    job_id varchar(32) COLLATE "C" NOT NULL,
    cluster varchar(512) COLLATE "C" NOT NULL,
    node varchar(512) COLLATE "C",
    pending timestamp,
    started timestamp,
    finished timestamp,
    job_run_state smallint NOT NULL,
    error bytea,
    exit_code integer,
    leased timestamp,
    debug bytea,
    pool text COLLATE "C",
    ingress_addresses jsonb,
    failure_category varchar(63) COLLATE "C",
    failure_subcategory varchar(63) COLLATE "C",
    scheduler_termination_reason jsonb
) WITH (fillfactor = 70);

ALTER TABLE job_run ALTER COLUMN error SET STORAGE EXTERNAL;

CREATE INDEX idx_job_run_cluster_run_id ON job_run (cluster, run_id) WITH (fillfactor = 80);
CREATE INDEX idx_job_run_job_id ON job_run (job_id) WITH (fillfactor = 80);
CREATE INDEX idx_job_run_node ON job_run (node) WITH (fillfactor = 80);
CREATE INDEX idx_job_run_run_id_cluster_node ON job_run (run_id, cluster, node) WITH (fillfactor = 80);
CREATE INDEX idx_job_run_run_id_node ON job_run (run_id, node) WITH (fillfactor = 80);
CREATE INDEX idx_job_run_run_id_pool ON job_run (run_id, pool) WITH (fillfactor = 80);
CREATE INDEX idx_job_run_state_pool ON job_run (job_run_state, pool);

CREATE TABLE job_spec (
    job_id varchar(32) COLLATE "C" NOT NULL PRIMARY KEY,
    job_spec bytea NOT NULL
);

ALTER TABLE job_spec ALTER COLUMN job_spec SET STORAGE EXTERNAL;

CREATE TABLE job_error (
    job_id varchar(32) COLLATE "C" NOT NULL PRIMARY KEY,
    error bytea NOT NULL
);

ALTER TABLE job_error ALTER COLUMN error SET STORAGE EXTERNAL;

CREATE TABLE job_deduplication (
    deduplication_id text COLLATE "C" NOT NULL PRIMARY KEY,
    job_id text COLLATE "C" NOT NULL,
    inserted timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE INDEX idx_job_deduplication_inserted ON job_deduplication (inserted);
