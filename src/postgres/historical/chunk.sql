-- Inserts the historical jobs with the numbers from first to last, with their runs, specs and errors. Existing jobs are
-- not changed.
--
-- Existing ids are read once, as a range. ON CONFLICT would look up, lock and confirm every row. If another transaction
-- inserts one of the ids concurrently, the statement fails with a unique violation and is retried.
WITH given AS NOT MATERIALIZED (
    SELECT
        $1::bigint AS first,
        $2::bigint AS last,
        $3::text AS id_prefix,
        $4::text AS run_id_suffix,
        $5::text AS queue,
        $6::text AS jobset,
        $7::timestamp[] AS bases,
        $8::bigint[] AS thresholds,
        $9::bigint AS threshold_modulus,
        $10::bytea AS spec,
        $11::bytea AS error,
        $12::bytea AS debug,
        $13::bytea AS preemption,
        -- By the remainder of the job's number.
        $14::text[] AS namespaces,
        $15::text[] AS priority_classes,
        $16::bigint[] AS cpus,
        $17::bigint[] AS memories,
        $18::bigint[] AS ephemeral_storages,
        $19::bigint[] AS gpus,
        $20::text[] AS pools,
        $21::bigint AS priorities,
        $22::bigint AS clusters,
        $23::bigint AS nodes,
        $24::text[] AS annotation_keys,
        $25::bigint[] AS annotation_counts,
        -- By the ending: succeeded, failed, cancelled, preempted.
        $26::smallint[] AS states,
        $27::smallint[] AS run_states,
        $28::integer[] AS exit_codes,
        $29::text AS cancel_reason,
        -- Intervals after the submission.
        make_interval(secs => $30) AS leased_after,
        make_interval(secs => $31) AS pending_after,
        make_interval(secs => $32) AS started_after,
        make_interval(secs => $33) AS finished_after
),
numbered AS (
    SELECT
        i,
        job_id,
        job_id || run_id_suffix AS run_id,
        bases[(i % cardinality(bases))::integer + 1] AS submitted,
        bases[(i % cardinality(bases))::integer + 1] + finished_after AS ended,
        'broadside-cluster-' || i % clusters + 1 AS cluster,
        CASE
            WHEN i % threshold_modulus < thresholds[1] THEN 1
            WHEN i % threshold_modulus < thresholds[2] THEN 2
            WHEN i % threshold_modulus < thresholds[3] THEN 3
            ELSE 4
        END AS ending
    FROM
        given,
        generate_series(first, last) AS i,
        LATERAL (SELECT (id_prefix || lpad(i::text, greatest(10, length(i::text)), '0')) COLLATE {collation} AS job_id) AS id
),
bounds AS (
    SELECT min(job_id) AS first_job, max(job_id) AS last_job, min(run_id) AS first_run, max(run_id) AS last_run
    FROM numbered
),
known_jobs AS MATERIALIZED (
    SELECT job_id FROM {known_jobs}
    WHERE job_id BETWEEN (SELECT first_job FROM bounds) AND (SELECT last_job FROM bounds)
),
known_runs AS MATERIALIZED (
    SELECT run_id FROM job_run
    WHERE run_id BETWEEN (SELECT first_run FROM bounds) AND (SELECT last_run FROM bounds)
),
known_specs AS MATERIALIZED (
    SELECT job_id FROM job_spec
    WHERE job_id BETWEEN (SELECT first_job FROM bounds) AND (SELECT last_job FROM bounds)
),
known_errors AS MATERIALIZED (
    SELECT job_id FROM job_error
    WHERE job_id BETWEEN (SELECT first_job FROM bounds) AND (SELECT last_job FROM bounds)
),
made AS (
    SELECT * FROM numbered AS n WHERE NOT EXISTS (SELECT FROM known_jobs AS k WHERE k.job_id = n.job_id)
),
{claimed}
added AS (
    INSERT INTO {ended_jobs} (
        job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, submitted, cancelled, state,
        last_transition_time, last_transition_time_seconds, priority_class, latest_run_id, cancel_reason, namespace,
        annotations, cancel_user
    )
    SELECT
        job_id,
        queue,
        queue,
        jobset,
        cpus[(i % cardinality(cpus))::integer + 1],
        memories[(i % cardinality(memories))::integer + 1],
        ephemeral_storages[(i % cardinality(ephemeral_storages))::integer + 1],
        gpus[(i % cardinality(gpus))::integer + 1],
        i % priorities + 1,
        submitted,
        CASE WHEN ending = 3 THEN ended END,
        states[ending],
        ended,
        -- Whole seconds first: before version 14 the result is a double, which is rounded.
        extract(epoch FROM date_trunc('second', ended)),
        priority_classes[(i % cardinality(priority_classes))::integer + 1],
        run_id,
        CASE WHEN ending = 3 THEN cancel_reason END,
        namespaces[(i % cardinality(namespaces))::integer + 1],
        jsonb_object(annotation_keys, ARRAY[{annotation_values}]),
        CASE WHEN ending = 3 THEN queue END
    FROM made, given
),
added_runs AS (
    INSERT INTO job_run (
        run_id, job_id, cluster, node, pool, leased, pending, started, finished, job_run_state, exit_code, error, debug
    )
    SELECT
        run_id,
        job_id,
        cluster,
        cluster || '-node-' || i % nodes + 1,
        pools[(i % cardinality(pools))::integer + 1],
        submitted + leased_after,
        submitted + pending_after,
        submitted + started_after,
        ended,
        run_states[ending],
        exit_codes[ending],
        CASE ending WHEN 2 THEN error WHEN 4 THEN preemption END,
        CASE ending WHEN 2 THEN debug END
    FROM made AS m, given
    WHERE NOT EXISTS (SELECT FROM known_runs AS k WHERE k.run_id = m.run_id)
),
added_specs AS (
    INSERT INTO job_spec (job_id, job_spec)
    SELECT job_id, spec FROM made AS m, given
    WHERE spec IS NOT NULL AND NOT EXISTS (SELECT FROM known_specs AS k WHERE k.job_id = m.job_id)
)
INSERT INTO job_error (job_id, error)
SELECT job_id, error FROM made AS m, given
WHERE ending = 2 AND error IS NOT NULL AND NOT EXISTS (SELECT FROM known_errors AS k WHERE k.job_id = m.job_id)
