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

TEAM = "example.com/team"
# The name of a question, the SQL for the engine, and the SQL for DuckDB if it differs.
QUESTIONS = [
    ("jobs by queue", "SELECT queue, count(*) FROM job GROUP BY queue", None),
    ("jobs by state, average cpu", "SELECT state, count(*), avg(cpu) FROM job GROUP BY state", None),
    (
        "jobs by job set, first submission",
        "SELECT job_set, count(*), min(submitted) FROM job GROUP BY job_set",
        None,
    ),
    ("all jobs", "SELECT count(*) FROM job", None),
    (
        "jobs of a state and queue",
        "SELECT count(*) FROM job WHERE state = 'FAILED' AND queue = 'risk'",
        None,
    ),
    (
        "jobs by annotation",
        f"SELECT annotations['{TEAM}'], count(*) FROM job GROUP BY annotations['{TEAM}']",
        None,
    ),
    (
        "failed jobs by cluster of their runs",
        "SELECT r.cluster, count(*) FROM job j JOIN job_run r ON r.job_id = j.job_id WHERE j.state = 'FAILED' "
        "GROUP BY r.cluster",
        None,
    ),
    (
        "jobs by hour of submission",
        "SELECT date_trunc('hour', submitted), count(*) FROM job GROUP BY date_trunc('hour', submitted)",
        None,
    ),
    (
        "last three transitions",
        "SELECT job_id, last_transition_time FROM job ORDER BY last_transition_time DESC LIMIT 3",
        None,
    ),
    ("jobs by job set and queue", "SELECT job_set, queue, count(*) FROM job GROUP BY job_set, queue", None),
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


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--jobs", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=25)
    arguments.add_argument("--command", default="target/release/broadside")
    arguments = arguments.parse_args()
    command = os.path.abspath(arguments.command)
    connection = tables(command, arguments.jobs)
    engine = Engine(command, arguments.jobs)
    print(f"{arguments.jobs:,} jobs, DuckDB {duckdb.__version__} with one thread; median and minimum of "
          f"{arguments.rounds} rounds of {PER_TURN} executions in ms\n")
    print("| question | engine | least | DuckDB | least | DuckDB ÷ engine |\n|---|---:|---:|---:|---:|---:|")
    for name, ours, theirs in QUESTIONS:
        times = ([], [])
        rows = (set(), set())
        for turn in range(arguments.rounds + 1):
            for of, run in enumerate([lambda: engine.run(ours), lambda: on_duckdb(connection, theirs or ours)]):
                for _ in range(PER_TURN):
                    count, elapsed = run()
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
        print(f"| {name} | " + " | ".join(f"{1000 * cell:.2f}" for cell in cells) + f" | {ratio:.{digits}f} |")


main()
