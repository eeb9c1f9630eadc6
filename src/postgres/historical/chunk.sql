WITH numbered AS (
    SELECT
        i,
        $3 || lpad(i::text, greatest(10, length(i::text)), '0') AS job_id,
        ($6::timestamp[])[(i % cardinality($6::timestamp[]))::integer + 1] AS submitted,
        CASE WHEN i % $35 < $7 THEN 1 WHEN i % $35 < $8 THEN 2 WHEN i % $35 < $9 THEN 3 ELSE 4 END AS ending,
        'broadside-cluster-' || i % $29 + 1 AS cluster
    FROM generate_series($1::bigint, $2::bigint) AS i
),
added AS (
    INSERT INTO job (
        job_id, queue, owner, jobset, cpu, memory, ephemeral_storage, gpu, priority, submitted, cancelled, state,
        last_transition_time, last_transition_time_seconds, priority_class, latest_run_id, cancel_reason, namespace,
        annotations, cancel_user
    )
    SELECT
        job_id, $4, $4, $5,
        ($16::bigint[])[(i % cardinality($16::bigint[]))::integer + 1],
        ($17::bigint[])[(i % cardinality($17::bigint[]))::integer + 1],
        ($18::bigint[])[(i % cardinality($18::bigint[]))::integer + 1],
        ($19::bigint[])[(i % cardinality($19::bigint[]))::integer + 1],
        i % $28 + 1,
        submitted,
        CASE WHEN ending = 3 THEN submitted + make_interval(secs => $34) END,
        ($23::smallint[])[ending],
        submitted + make_interval(secs => $34),
        floor(extract(epoch FROM submitted + make_interval(secs => $34)))::bigint,
        ($15::text[])[(i % cardinality($15::text[]))::integer + 1],
        job_id || $27,
        CASE WHEN ending = 3 THEN $26 END,
        ($14::text[])[(i % cardinality($14::text[]))::integer + 1],
        (
            SELECT jsonb_object_agg(key, 'value-' || i % value_count)
            FROM unnest($21::text[], $22::bigint[]) AS annotation (key, value_count)
        ),
        CASE WHEN ending = 3 THEN $4 END
    FROM numbered
    ON CONFLICT DO NOTHING
    RETURNING job_id
),
made AS (
    SELECT numbered.* FROM numbered JOIN added ON added.job_id = numbered.job_id
),
added_runs AS (
    INSERT INTO job_run (
        run_id, job_id, cluster, node, pool, leased, pending, started, finished, job_run_state, exit_code, error, debug
    )
    SELECT
        job_id || $27, job_id, cluster, cluster || '-node-' || i % $30 + 1,
        ($20::text[])[(i % cardinality($20::text[]))::integer + 1],
        submitted + make_interval(secs => $31),
        submitted + make_interval(secs => $32),
        submitted + make_interval(secs => $33),
        submitted + make_interval(secs => $34),
        ($24::smallint[])[ending],
        ($25::integer[])[ending],
        CASE ending WHEN 2 THEN $11::bytea WHEN 4 THEN $13::bytea END,
        CASE ending WHEN 2 THEN $12::bytea END
    FROM made
    ON CONFLICT DO NOTHING
),
added_specs AS (
    INSERT INTO job_spec (job_id, job_spec) SELECT job_id, $10::bytea FROM made WHERE $10::bytea IS NOT NULL
    ON CONFLICT DO NOTHING
),
added_errors AS (
    INSERT INTO job_error (job_id, error)
    SELECT job_id, $11::bytea FROM made WHERE ending = 2 AND $11::bytea IS NOT NULL
    ON CONFLICT DO NOTHING
)
SELECT FROM made LIMIT 1
