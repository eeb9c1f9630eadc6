-- Lookout's `job`, as after its 35 migrations.

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
