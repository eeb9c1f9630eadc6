-- Lookout's tables except `job`, as after its 35 migrations.
--
-- The collation "C" compares texts byte by byte in every locale, and lets indexes serve that order and prefixes.

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
