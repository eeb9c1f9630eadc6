"""Measures the same SQL on the memory engine and on DuckDB, with one thread each.

    cargo build --release --features cli
    python3 benches/sql.py [--jobs 1000000] [--rounds 25]

The jobs are exported by `broadside sql` as Parquet files. DuckDB stores them in native tables in memory, with the
annotations in a map. The engine and DuckDB execute a statement in turns, each on a processor of its own if there are
two. Each turn executes the statement several times, so that most executions find their data in the processor's caches.
Times include planning and fetching the rows; those of the engine are reported by `\\timing` of the shell. For a repeated
statement, the engine reuses the optimised logical plan.
"""

import argparse
import math
import os
import pathlib
import re
import statistics
import subprocess
import tempfile
import time

import duckdb

TEAM = "annotations['example.com/team']"
WAIT = "extract(epoch FROM r.started - r.leased)"
# The kind of a question, its name, and the SQL of both. {job} and {run} are ids, {jobs} and {runs} are lists of 20 ids.
QUESTIONS = [
    ("lookup", "a job", "SELECT * FROM job WHERE job_id = '{job}'"),
    ("lookup", "the state of a job", "SELECT state, last_transition_time FROM job WHERE job_id = '{job}'"),
    ("lookup", "a run", "SELECT * FROM job_run WHERE run_id = '{run}'"),
    ("lookup", "the runs of a job", "SELECT run_id, cluster, state FROM job_run WHERE job_id = '{job}' ORDER BY leased"),
    ("lookup", "20 jobs", "SELECT job_id, queue, state FROM job WHERE job_id IN ({jobs})"),
    ("lookup", "20 runs", "SELECT run_id, cluster, node, state FROM job_run WHERE run_id IN ({runs})"),
    ("lookup", "the runs of 20 jobs", "SELECT job_id, run_id, state FROM job_run WHERE job_id IN ({jobs})"),
    (
        "join by id",
        "a job and its latest run",
        "SELECT j.job_id, j.state, r.cluster, r.node FROM job j JOIN job_run r ON r.run_id = j.latest_run_id "
        "WHERE j.job_id = '{job}'",
    ),
    (
        "join by id",
        "a job and its runs",
        "SELECT j.job_id, r.run_id, r.state FROM job j LEFT JOIN job_run r ON r.job_id = j.job_id "
        "WHERE j.job_id = '{job}'",
    ),
    (
        "join by id",
        "the job of a run",
        "SELECT j.* FROM job_run r JOIN job j ON j.job_id = r.job_id WHERE r.run_id = '{run}'",
    ),
    (
        "join by id",
        "the latest runs of the last 50 jobs",
        "SELECT j.job_id, j.state, r.cluster, r.started FROM (SELECT * FROM job ORDER BY submitted DESC, job_id LIMIT 50) j "
        "LEFT JOIN job_run r ON r.run_id = j.latest_run_id",
    ),
    (
        "join by id",
        "the latest runs of failed jobs of a queue",
        "SELECT j.job_id, r.cluster, r.exit_code FROM job j JOIN job_run r ON r.run_id = j.latest_run_id "
        "WHERE j.queue = 'archive' AND j.state = 'FAILED'",
    ),
    (
        "join by id",
        "jobs of a list of runs",
        "SELECT j.queue, count(*) FROM job j WHERE j.job_id IN (SELECT job_id FROM job_run WHERE run_id IN ({runs})) "
        "GROUP BY j.queue",
    ),
    ("page", "the last jobs", "SELECT job_id, queue, state, submitted FROM job ORDER BY submitted DESC, job_id LIMIT 100"),
    ("page", "the first jobs", "SELECT job_id, submitted FROM job ORDER BY submitted, job_id LIMIT 10"),
    (
        "page",
        "the last jobs of a queue",
        "SELECT job_id, state, submitted FROM job WHERE queue = 'risk' ORDER BY submitted DESC, job_id DESC LIMIT 100",
    ),
    (
        "page",
        "the tenth page of a queue",
        "SELECT job_id, state, submitted FROM job WHERE queue = 'risk' ORDER BY submitted DESC, job_id LIMIT 100 OFFSET 900",
    ),
    (
        "page",
        "the last failures",
        "SELECT job_id, queue, last_transition_time FROM job WHERE state = 'FAILED' "
        "ORDER BY last_transition_time DESC, job_id LIMIT 100",
    ),
    ("page", "the last three transitions", "SELECT job_id, last_transition_time FROM job ORDER BY last_transition_time DESC LIMIT 3"),
    ("page", "jobs by queue and time", "SELECT job_id, queue, submitted FROM job ORDER BY queue, submitted DESC, job_id LIMIT 50"),
    (
        "page",
        "queued jobs by priority",
        "SELECT job_id, priority, submitted FROM job WHERE state = 'QUEUED' ORDER BY priority DESC, submitted, job_id LIMIT 100",
    ),
    ("page", "the largest jobs", "SELECT job_id, cpu, memory FROM job ORDER BY cpu DESC, memory DESC, job_id LIMIT 20"),
    ("page", "the last runs", "SELECT run_id, leased FROM job_run ORDER BY leased DESC, run_id LIMIT 20"),
    ("today", "jobs by queue", "SELECT queue, count(*) FROM job GROUP BY queue"),
    ("today", "jobs by state, average cpu", "SELECT state, count(*), avg(cpu) FROM job GROUP BY state"),
    ("today", "jobs by job set, first submission", "SELECT job_set, count(*), min(submitted) FROM job GROUP BY job_set"),
    ("today", "all jobs", "SELECT count(*) FROM job"),
    ("today", "jobs of a state and queue", "SELECT count(*) FROM job WHERE state = 'FAILED' AND queue = 'risk'"),
    ("today", "jobs by annotation", f"SELECT {TEAM}, count(*) FROM job GROUP BY {TEAM}"),
    (
        "today",
        "failed jobs by cluster of their runs",
        "SELECT r.cluster, count(*) FROM job j JOIN job_run r ON r.job_id = j.job_id WHERE j.state = 'FAILED' "
        "GROUP BY r.cluster",
    ),
    (
        "today",
        "jobs by hour of submission",
        "SELECT date_trunc('hour', submitted), count(*) FROM job GROUP BY date_trunc('hour', submitted)",
    ),
    ("today", "jobs by job set and queue", "SELECT job_set, queue, count(*) FROM job GROUP BY job_set, queue"),
    ("count", "distinct users", "SELECT count(DISTINCT owner) FROM job"),
    ("count", "users by queue", "SELECT queue, count(DISTINCT owner) FROM job GROUP BY queue"),
    ("count", "job sets by queue", "SELECT queue, count(DISTINCT job_set) FROM job GROUP BY queue"),
    ("count", "jobs with runs", "SELECT count(DISTINCT job_id) FROM job_run"),
    ("count", "jobs of a cluster", "SELECT state, count(*) FROM job WHERE cluster = 'general-01' GROUP BY state"),
    ("count", "jobs per number of runs", "SELECT n, count(*) FROM (SELECT job_id, count(*) AS n FROM job_run GROUP BY job_id) t GROUP BY n"),
    ("count", "nodes with failures", "SELECT node, count(*) FROM job_run WHERE state = 'RUN_FAILED' GROUP BY node ORDER BY 2 DESC, 1 LIMIT 10"),
    ("sum", "cpu of running jobs by queue", "SELECT queue, sum(cpu), sum(gpu) FROM job WHERE state = 'RUNNING' GROUP BY queue"),
    ("sum", "resources of all jobs", "SELECT sum(cpu), sum(memory), sum(gpu) FROM job"),
    ("sum", "cpu and memory by user", "SELECT owner, sum(cpu), sum(memory) FROM job GROUP BY owner"),
    ("sum", "top users", "SELECT owner, count(*), sum(cpu * 2) FROM job GROUP BY owner ORDER BY 2 DESC, 1 LIMIT 10"),
    ("sum", "top job sets by failures", "SELECT job_set, count(*) FROM job WHERE state = 'FAILED' GROUP BY job_set ORDER BY 2 DESC, 1 LIMIT 10"),
    ("rollup", "queue and state", "SELECT queue, state, count(*) FROM job GROUP BY ROLLUP(queue, state)"),
    ("rollup", "queue, state and user", "SELECT queue, owner, count(*), sum(cpu) FROM job GROUP BY CUBE(queue, owner)"),
    (
        "rollup",
        "states as columns",
        "SELECT queue, count(*) FILTER (WHERE state = 'FAILED'), count(*) FILTER (WHERE state = 'SUCCEEDED'), count(*) "
        "FROM job GROUP BY queue",
    ),
    ("text", "job sets that start with a text", "SELECT count(*) FROM job WHERE job_set LIKE 'risk-%'"),
    ("text", "job sets that contain a text", "SELECT count(*) FROM job WHERE job_set LIKE '%nightly%'"),
    ("text", "job sets in any case", "SELECT count(*) FROM job WHERE job_set ILIKE '%NIGHTLY%'"),
    ("text", "users of a pattern", "SELECT owner, count(*) FROM job WHERE owner LIKE 'user-0_1' GROUP BY owner"),
    ("text", "values of an annotation", f"SELECT count(*) FROM job WHERE {TEAM} LIKE 'team-0%'"),
    ("text", "errors that contain a text", "SELECT count(*) FROM job_run WHERE error LIKE '%OOM%'"),
    ("time", "submissions of a day by hour", "SELECT date_trunc('hour', submitted) AS h, count(*) FROM job WHERE submitted >= TIMESTAMP '2026-02-20 00:00:00' AND submitted < TIMESTAMP '2026-02-21 00:00:00' GROUP BY h ORDER BY h"),
    ("time", "failures by day", "SELECT date_trunc('day', last_transition_time) AS d, count(*) FROM job WHERE state = 'FAILED' GROUP BY d ORDER BY d"),
    ("time", "jobs by queue and day", "SELECT queue, date_trunc('day', submitted) AS d, count(*) FROM job GROUP BY queue, d"),
    ("time", "jobs by hour of the day", "SELECT extract(hour FROM submitted) AS h, count(*) FROM job GROUP BY h ORDER BY h"),
    ("time", "runs longer than an hour", "SELECT count(*) FROM job_run WHERE finished - started > INTERVAL '1 hour'"),
    ("time", "average duration by cluster", "SELECT cluster, avg(extract(epoch FROM finished - started)) FROM job_run GROUP BY cluster"),
    ("wait", "median wait", f"SELECT median({WAIT}) FROM job_run r"),
    (
        "wait",
        "waits in percentiles by queue",
        f"SELECT j.queue, percentile_cont(0.5) WITHIN GROUP (ORDER BY {WAIT}), "
        f"percentile_cont(0.95) WITHIN GROUP (ORDER BY {WAIT}) FROM job_run r JOIN job j ON j.job_id = r.job_id GROUP BY j.queue",
    ),
    (
        "wait",
        "longest waits",
        f"SELECT r.run_id, {WAIT} AS wait FROM job_run r WHERE r.started IS NOT NULL ORDER BY wait DESC, r.run_id LIMIT 20",
    ),
    (
        "window",
        "the last job of each queue",
        "SELECT queue, job_id FROM (SELECT queue, job_id, row_number() OVER (PARTITION BY queue ORDER BY submitted DESC, job_id) "
        "AS n FROM job) t WHERE n = 1",
    ),
    (
        "window",
        "running total of a day by queue",
        "SELECT queue, h, sum(n) OVER (PARTITION BY queue ORDER BY h) FROM (SELECT queue, date_trunc('hour', submitted) AS h, "
        "count(*) AS n FROM job WHERE submitted < TIMESTAMP '2026-02-17 00:00:00' GROUP BY queue, h) t",
    ),
    (
        "window",
        "time between submissions of a queue",
        "SELECT avg(extract(epoch FROM d)) FROM (SELECT submitted - lag(submitted) OVER (ORDER BY submitted, job_id) AS d FROM job "
        "WHERE queue = 'risk') t",
    ),
    (
        "window",
        "share of each user in its queue",
        "SELECT queue, owner, n * 100.0 / sum(n) OVER (PARTITION BY queue) FROM (SELECT queue, owner, count(*) AS n FROM job "
        "GROUP BY queue, owner) t",
    ),
    ("many groups", "jobs by id", "SELECT count(*), max(n) FROM (SELECT job_id, count(*) AS n FROM job GROUP BY job_id) t"),
    ("many groups", "runs by job", "SELECT job_id, count(*), max(leased) FROM job_run GROUP BY job_id ORDER BY 2 DESC, 1 LIMIT 10"),
    ("many groups", "jobs by second", "SELECT date_trunc('second', submitted) AS s, count(*) FROM job GROUP BY s ORDER BY 2 DESC, 1 LIMIT 10"),
    ("many groups", "the latest run of each job", "SELECT count(*) FROM (SELECT job_id, max(leased) FROM job_run GROUP BY job_id) t"),
]
# The number of executions in a turn.
PER_TURN = 5
UNITS = {"ns": 1e-9, "µs": 1e-6, "ms": 1e-3, "s": 1}
TIME = re.compile(rb"^\d+ rows?, ([\d.]+) (\S+)$")


class Engine:
    """The shell of `broadside sql`, which executes one statement at a time."""

    def __init__(self, command, jobs):
        self.shell = subprocess.Popen(
            [command, "sql", "--jobs", str(jobs), "--format", "csv"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.pin()
        self.shell.stdin.write(b"\\timing\n")
        self.shell.stdin.flush()
        self.shell.stdout.readline()

    def pin(self):
        """Gives each engine a processor of its own: the reader of the results must not interrupt the shell."""
        if hasattr(os, "sched_setaffinity") and len(processors := sorted(os.sched_getaffinity(0))) > 1:
            for thread in os.listdir(f"/proc/{self.shell.pid}/task"):
                os.sched_setaffinity(int(thread), processors[:1])
            os.sched_setaffinity(0, processors[1:2])

    def run(self, statement):
        self.shell.stdin.write(statement.encode() + b";\n")
        self.shell.stdin.flush()
        rows = []
        while True:
            line = self.shell.stdout.readline()
            if not line:
                raise SystemExit(f"the engine ended at {statement}")
            if match := TIME.match(line.strip()):
                return len(rows) - 1, float(match[1]) * UNITS[match[2].decode()]
            rows.append(line)


def tables(command, jobs):
    connection = duckdb.connect(":memory:")
    connection.execute("SET threads = 1")
    with tempfile.TemporaryDirectory() as folder:
        for table in ["job", "job_run"]:
            path = pathlib.Path(folder, f"{table}.parquet")
            export = [command, "sql", "--jobs", str(jobs), "--format", "parquet", "--out", path]
            subprocess.run([*export, f"SELECT * FROM {table}"], check=True)
            connection.execute(f"CREATE TABLE {table} AS SELECT * FROM '{path}'")
    return connection


def on_duckdb(connection, statement):
    started = time.perf_counter()
    rows = connection.execute(statement).fetchall()
    return len(rows), time.perf_counter() - started


def examples(connection):
    """Ids for the questions, which are spread over the tables."""
    def ids(column, table):
        rows = connection.execute(f"SELECT {column} FROM {table} ORDER BY hash({column}) LIMIT 20").fetchall()
        return [row[0] for row in rows]

    jobs, runs = ids("job_id", "job_run"), ids("run_id", "job_run")
    listed = [", ".join(f"'{name}'" for name in names) for names in (jobs, runs)]
    return {"job": jobs[0], "run": runs[0], "jobs": listed[0], "runs": listed[1]}


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--jobs", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=25)
    arguments.add_argument("--command", default="target/release/broadside")
    arguments.add_argument("--only", default="", help="measure the questions whose kind or name contains a text")
    arguments = arguments.parse_args()
    command = os.path.abspath(arguments.command)
    connection = tables(command, arguments.jobs)
    engine = Engine(command, arguments.jobs)
    ids = examples(connection)
    print(f"{arguments.jobs:,} jobs, DuckDB {duckdb.__version__} with one thread; median and minimum of "
          f"{arguments.rounds} rounds of {PER_TURN} executions in ms\n")
    print("| kind | question | engine | least | DuckDB | least | DuckDB ÷ engine |\n|---|---|---:|---:|---:|---:|---:|")
    for kind, name, statement in QUESTIONS:
        if arguments.only not in f"{kind} {name}":
            continue
        statement = statement.format(**ids)
        times = ([], [])
        rows = (set(), set())
        for turn in range(arguments.rounds + 1):
            for of, run in enumerate([engine.run, lambda statement: on_duckdb(connection, statement)]):
                for _ in range(PER_TURN):
                    count, elapsed = run(statement)
                    rows[of].add(count)
                    # The first executions build dictionaries and caches.
                    if turn > 0:
                        times[of].append(elapsed)
        if rows[0] != rows[1] or len(rows[0]) > 1:
            raise SystemExit(f"{name}: {rows[0]} rows on the engine, {rows[1]} on DuckDB")
        middle = [statistics.median(of) for of in times]
        least = [min(of) for of in times]
        cells = [middle[0], least[0], middle[1], least[1]]
        ratio = middle[1] / middle[0]
        digits = max(0, 1 - math.floor(math.log10(ratio)))
        print(f"| {kind} | {name} | " + " | ".join(f"{1000 * cell:.2f}" for cell in cells) + f" | {ratio:.{digits}f} |", flush=True)


main()
