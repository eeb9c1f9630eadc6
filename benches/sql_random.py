"""Compares random SQL statements on the memory engine with DuckDB, on the same Parquet files.

    cargo build --release --features cli
    python3 benches/sql_random.py [--statements 50000] [--seed 0] [--jobs 2000]

A statement is determined by the seed and its number. The results are compared as multisets, and floating-point numbers
to nine digits. `\\timing` of the shell marks the end of a result. The exit code is 1 if results differ.
"""

import argparse
import collections
import datetime
import json
import math
import os
import pathlib
import random
import re
import subprocess
import tempfile

import duckdb

TEXTS = ["queue", "job_set", "owner", "state", "namespace", "cluster", "node", "pool", "cancel_reason", "cancel_user"]
NUMBERS = ["cpu", "memory", "gpu", "priority"]
TIMES = ["submitted", "cancelled", "last_transition_time"]
RUN_TEXTS = ["cluster", "node", "pool", "state"]
RUN_TIMES = ["leased", "pending", "started", "finished"]
TIMING = re.compile(r"^\d+ rows?, [\d.]+ \S+$")


class Engine:
    """The shell, which ends at an error and is then started again."""

    def __init__(self, command, jobs):
        self.command = [command, "sql", "--jobs", str(jobs), "--format", "json"]
        self.shell = None

    def run(self, statement):
        if self.shell is None:
            pipe = subprocess.PIPE
            self.shell = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
            self.shell.stdin.write("\\timing\n")
        self.shell.stdin.write(statement + ";\n")
        self.shell.stdin.flush()
        rows = []
        for line in self.shell.stdout:
            line = line.rstrip("\n")
            if TIMING.match(line):
                return rows
            if line.startswith("{"):
                rows.append(list(json.loads(line).values()))
        error = self.shell.stderr.read().strip()
        self.shell = None
        raise RuntimeError(error)


def cell(value):
    """A value in the form in which both engines are compared."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    if isinstance(value, datetime.date):
        return value.isoformat() + "T00:00:00"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.9g}"
    return str(value)


def is_close(left, right):
    """Whether cells are equal, or numbers that differ in the last digits only."""
    try:
        return left == right or math.isclose(float(left), float(right), rel_tol=1e-8)
    except ValueError:
        return False


def same_rows(ours, theirs):
    if sorted(ours) == sorted(theirs):
        return True
    # Numbers that are rounded to different sides are sorted next to each other by their first digits.
    coarse = lambda row: [re.sub(r"^(-?\d+\.\d).*", r"\1", value) for value in row]
    pairs = zip(sorted(ours, key=coarse), sorted(theirs, key=coarse))
    return len(ours) == len(theirs) and all(all(map(is_close, *pair)) for pair in pairs)


class Statements:
    """Random statements. `//` is a division of integers, which is `/` on the engine."""

    def __init__(self, connection):
        self.values = {}
        for table, columns in [("job", TEXTS + NUMBERS + TIMES), ("job_run", RUN_TEXTS + RUN_TIMES)]:
            for column in columns:
                rows = connection.execute(f"SELECT DISTINCT {column} FROM {table} WHERE {column} IS NOT NULL ORDER BY 1")
                self.values[table, column] = [row[0] for row in rows.fetchall()]

    def statement(self, seed):
        self.random = random.Random(seed)
        self.pick, self.chance = self.random.choice, lambda share: self.random.random() < share
        shape = self.pick([self.page, self.groups, self.grouping_sets, self.set_operation, self.join, self.window,
                           self.subquery, self.scalars])
        return shape()

    def literal(self, table, column):
        known = self.values[table, column]
        if not known or self.chance(0.05):
            return "NULL"
        value = self.pick(known)
        if isinstance(value, datetime.datetime):
            if self.chance(0.5):
                value = value.replace(microsecond=0, second=0)
            return f"TIMESTAMP '{value.isoformat(sep=' ')}'"
        return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"

    def list(self, table, column):
        items = [self.literal(table, column) for _ in range(self.random.randint(1, 6))]
        return ", ".join(items + ["NULL"] * self.chance(0.3))

    def number(self, alias):
        column = alias + self.pick(NUMBERS)
        return self.pick([column, f"{column} + {self.random.randint(-5, 5)}", f"{column} * 3 - 1", f"{column} // 7",
                          f"{column} % 5", f"-{column}", f"abs({column} - 4)", f"coalesce({column}, 0)",
                          f"CASE WHEN {column} > 4 THEN {column} END", f"CAST({column} * 0.71 AS BIGINT)",
                          f"nullif({column}, 1)", f"greatest({column}, 3)", f"length({alias}queue)"])

    def condition(self, table="job", alias="", depth=2, subqueries=False):
        """The engine supports subqueries only in WHERE."""
        if depth and self.chance(0.45):
            parts = [self.condition(table, alias, depth - 1, subqueries) for _ in range(2)]
            return self.pick([f"({parts[0]} AND {parts[1]})", f"({parts[0]} OR {parts[1]})", f"NOT ({parts[0]})"])
        texts, times = (TEXTS, TIMES) if table == "job" else (RUN_TEXTS, RUN_TIMES)
        text, time = self.pick(texts), self.pick(times)
        column = self.pick([text, time] + ([self.pick(NUMBERS)] if table == "job" else []))
        compare = self.pick(["=", "<>", "<", "<=", ">", ">=", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"])
        nots = "NOT " if self.chance(0.4) else ""
        value = self.literal(table, text).strip("'")
        part = value[self.random.randint(0, 3):][:self.random.randint(1, 9)].replace("_", "\\_")
        pattern = self.pick([f"{part}%", f"%{part}%", f"%{part}", f"_{part}%", part])
        choices = [
            f"({alias}{column} {compare} {self.literal(table, column)})",
            f"{alias}{column} {nots}IN ({self.list(table, column)})",
            f"{alias}{column} {nots}BETWEEN {self.literal(table, column)} AND {self.literal(table, column)}",
            f"{alias}{column} IS {nots}NULL",
            f"{alias}{text} {nots}{self.pick(['LIKE', 'ILIKE'])} '{pattern}' ESCAPE '\\'",
            f"{alias}{text} {nots}LIKE '{pattern.replace(chr(92), '')}'",
            f"{alias}{times[-1]} - {alias}{times[0]} {self.pick(['<', '>', '<=', '>='])} INTERVAL '{self.pick([30, 60, 1440, 3000])} minutes'",
            f"{alias}{times[-1]} - {alias}{times[0]} {nots}BETWEEN INTERVAL '{self.random.randint(1, 30)} minutes' AND INTERVAL '1 day'",
            f"date_trunc('{self.pick(['hour', 'day', 'week', 'month'])}', {alias}{time}) {compare.split(' ')[0].replace('IS', '=')} {self.literal(table, time)}",
            f"{alias}{time} + INTERVAL '{self.random.randint(1, 40)} hours' > {self.literal(table, time)}",
            f"extract({self.pick(['hour', 'day', 'dow', 'month'])} FROM {alias}{time}) {self.pick(['=', '<', '>'])} {self.random.randint(0, 20)}",
        ]
        if table == "job":
            choices += [f"({self.number(alias)} {compare} {self.random.randint(-3, 40)})"] * 2
        if subqueries:
            choices += [
                f"{alias}job_id {nots}IN (SELECT job_id FROM job_run WHERE {self.condition('job_run', '', 0)})",
                f"{nots}EXISTS (SELECT 1 FROM job_run r WHERE r.job_id = {alias or 'job.'}job_id AND {self.condition('job_run', 'r.', 0)})",
            ]
        return self.pick(choices)

    def where(self, table="job", alias=""):
        return f" WHERE {self.condition(table, alias, subqueries=True)}" if self.chance(0.8) else ""

    def order(self, columns):
        keys = [f"{column} {self.pick(['ASC', 'DESC'])} NULLS {self.pick(['FIRST', 'LAST'])}" for column in columns]
        return " ORDER BY " + ", ".join(keys)

    def expression(self, alias=""):
        text, time = self.pick(TEXTS), self.pick(TIMES)
        return self.pick([
            alias + text, alias + time, self.number(alias), f"upper({alias}{text})", f"substr({alias}{text}, 2, 5)",
            f"{alias}{text} || '-' || {alias}queue", f"coalesce({alias}{text}, 'none')", f"strpos({alias}{text}, 'e')",
            f"date_trunc('{self.pick(['minute', 'hour', 'day', 'week', 'month', 'year'])}', {alias}{time})",
            f"extract(epoch FROM {alias}last_transition_time - {alias}submitted)", f"replace({alias}{text}, 'r', 'xx')",
            f"CASE WHEN {self.condition(alias=alias, depth=1)} THEN 'yes' WHEN {alias}cpu > 2 THEN {alias}queue END",
            f"{self.condition(alias=alias, depth=1)}"])

    def columns(self, expressions):
        return ", ".join(f"{expression} AS c{at}" for at, expression in enumerate(expressions))

    def aggregates(self, alias=""):
        number = self.number(alias)
        column = alias + self.pick(TEXTS + TIMES)
        some = ["count(*)", f"count({column})", f"count(DISTINCT {column})", f"min({column})", f"max({column})",
                f"sum({number})", f"avg({number})", f"sum(DISTINCT {number})", f"max({number})",
                f"count(*) FILTER (WHERE {self.condition(alias=alias, depth=1)})", f"bool_or({alias}cpu > 8)",
                f"sum({number}) FILTER (WHERE {self.condition(alias=alias, depth=0)})", f"median({number})",
                f"stddev({alias}cpu)", f"avg(extract(epoch FROM {alias}last_transition_time - {alias}submitted))"]
        return self.random.sample(some, self.random.randint(1, 4))

    def page(self):
        keys = self.random.sample(TEXTS + NUMBERS + TIMES, self.random.randint(0, 2)) + ["job_id"]
        page = f" LIMIT {self.pick([1, 7, 50, 3000])}" + (f" OFFSET {self.pick([1, 40, 900])}" if self.chance(0.4) else "")
        return f"SELECT {self.columns(['job_id', self.expression(), self.expression()])} FROM job{self.where()}{self.order(keys)}{page}"

    def groups(self):
        keys = [self.expression() for _ in range(self.random.randint(0, 2))]
        having = f" HAVING count(*) > {self.random.randint(0, 30)}" if keys and self.chance(0.3) else ""
        by = f" GROUP BY {', '.join(keys)}" if keys else ""
        return f"SELECT {self.columns(keys + self.aggregates())} FROM job{self.where()}{by}{having}"

    def grouping_sets(self):
        keys = self.random.sample(TEXTS + ["cpu", "gpu"], self.random.randint(1, 3))
        sets = self.pick([f"ROLLUP ({', '.join(keys)})", f"CUBE ({', '.join(keys)})",
                          f"GROUPING SETS (({', '.join(keys)}), ({keys[0]}), ())", f"{keys[-1]}, ROLLUP ({', '.join(keys[:-1] or keys)})"])
        return f"SELECT {self.columns(keys + [f'grouping({keys[0]})'] + self.aggregates())} FROM job{self.where()} GROUP BY {sets}"

    def set_operation(self):
        columns = self.random.sample(TEXTS + NUMBERS, self.random.randint(1, 2))
        side = lambda: f"SELECT {'DISTINCT ' * self.chance(0.2)}{self.columns(columns)} FROM job{self.where()}"
        operation = lambda: self.pick(["UNION", "INTERSECT", "EXCEPT"]) + self.pick(["", " ALL"])
        more = f" {operation()} {side()}" if self.chance(0.3) else ""
        return f"{side()} {operation()} {side()}{more}"

    def join(self):
        kind = self.pick(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])
        on = self.pick(["r.job_id = j.job_id", "r.run_id = j.latest_run_id", "r.job_id = j.job_id AND r.cluster = j.cluster"])
        where = f" WHERE {self.condition(alias='j.')}" if self.chance(0.6) else f" WHERE {self.condition('job_run', 'r.')}"
        from_ = f"FROM job j {kind} job_run r ON {on}{where}"
        if self.chance(0.5):
            keys = ["r." + self.pick(RUN_TEXTS), "j." + self.pick(TEXTS)][:self.random.randint(1, 2)]
            return f"SELECT {self.columns(keys + self.aggregates('j.') + ['count(r.run_id)'])} {from_} GROUP BY {', '.join(keys)}"
        page = " LIMIT 30" if self.chance(0.4) else ""
        return f"SELECT {self.columns(['j.job_id', 'r.run_id', self.expression('j.'), 'r.state'])} {from_}{self.order(['j.submitted', 'j.job_id', 'r.run_id'])}{page}"

    def window(self):
        part = f"PARTITION BY {', '.join(self.random.sample(TEXTS, self.random.randint(1, 2)))}" if self.chance(0.7) else ""
        order = self.order([self.pick(NUMBERS + TIMES), "job_id"]).strip()
        frame = self.pick(["", "ROWS BETWEEN 2 PRECEDING AND CURRENT ROW", "ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING",
                           "ROWS BETWEEN 1 FOLLOWING AND 3 FOLLOWING"])
        number, text = self.pick(NUMBERS), self.pick(TEXTS + TIMES)
        calls = [f"row_number() OVER ({part} {order})", f"rank() OVER ({part} ORDER BY {number})", f"dense_rank() OVER ({part} ORDER BY {number})",
                 f"lag({text}) OVER ({part} {order})", f"lead({number}, 2, -1) OVER ({part} {order})", f"ntile(4) OVER ({part} {order})",
                 f"sum({number}) OVER ({part} {order} {frame})", f"count({text}) OVER ({part} {order} {frame})",
                 f"max({number}) OVER ({part} {order} {frame})", f"first_value({text}) OVER ({part} {order} {frame})",
                 f"last_value({text}) OVER ({part} {order} {frame})", f"avg({number}) OVER ({part})",
                 f"row_number() OVER ({part} {order}) - row_number() OVER ({order})"]
        columns = self.columns(["job_id"] + self.random.sample(calls, 2))
        return f"SELECT * FROM (SELECT {columns} FROM job{self.where()}) t" + (" WHERE c1 IS NOT NULL" if self.chance(0.3) else "")

    def subquery(self):
        inner = f"SELECT queue AS q, owner AS o, count(*) AS n, sum(cpu) AS s FROM job{self.where()} GROUP BY queue, owner"
        return self.pick([
            f"WITH g AS ({inner}) SELECT q AS c0, max(n) AS c1, sum(s) AS c2 FROM g GROUP BY q",
            f"WITH g AS ({inner}) SELECT g.q AS c0, g.n AS c1 FROM g JOIN g h ON g.q = h.q AND g.n < h.n",
            f"SELECT j.job_id AS c0, (SELECT count(*) FROM job_run r WHERE r.job_id = j.job_id AND {self.condition('job_run', 'r.', 0)}) AS c1 "
            f"FROM job j{self.where(alias='j.')}",
            f"SELECT count(*) AS c0 FROM job WHERE cpu > (SELECT avg(cpu) FROM job{self.where()})",
            f"SELECT DISTINCT {self.columns([self.expression(), self.pick(TEXTS)])} FROM job{self.where()}",
            f"SELECT count(*) AS c0 FROM ({inner}) t WHERE n > {self.random.randint(0, 9)} AND s {self.pick(['<', '>'])} 40",
            f"SELECT o AS c0, n AS c1 FROM ({inner}) t{self.order(['n', 'o', 'q'])} LIMIT 5"])

    def scalars(self):
        return f"SELECT {self.columns([self.expression() for _ in range(4)])} FROM job{self.where()}"


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--statements", type=int, default=50_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--jobs", type=int, default=2_000)
    arguments.add_argument("--command", default="target/release/broadside")
    arguments = arguments.parse_args()
    command = os.path.abspath(arguments.command)
    connection = duckdb.connect(":memory:")
    with tempfile.TemporaryDirectory() as folder:
        for table in ["job", "job_run"]:
            path = pathlib.Path(folder, f"{table}.parquet")
            export = [command, "sql", "--jobs", str(arguments.jobs), "--format", "parquet", "--out", path]
            subprocess.run([*export, f"SELECT * FROM {table}"], check=True)
            connection.execute(f"CREATE TABLE {table} AS SELECT * FROM '{path}'")
    engine, statements = Engine(command, arguments.jobs), Statements(connection)
    outcomes = collections.Counter()
    for number in range(arguments.seed, arguments.seed + arguments.statements):
        statement = statements.statement(number)
        try:
            theirs = [[cell(value) for value in row] for row in connection.execute(statement).fetchall()]
        except duckdb.Error as error:
            theirs = f"error: {error}".split("\n")[0]
        try:
            ours = [[cell(value) for value in row] for row in engine.run(statement.replace("//", "/"))]
        except RuntimeError as error:
            ours = str(error)
        failed = isinstance(ours, str), isinstance(theirs, str)
        same = all(failed) or not any(failed) and same_rows(ours, theirs)
        outcomes["same, refused by both" if all(failed) else "same" if same else "different"] += 1
        if not same:
            extra = [len(rows) if isinstance(rows, list) else rows for rows in (ours, theirs)]
            print(f"{number}: {statement}\n  engine {extra[0]}, DuckDB {extra[1]}")
            if not any(failed):
                left, right = (collections.Counter(map(tuple, rows)) for rows in (ours, theirs))
                print(f"  only engine {list((left - right))[:3]}, only DuckDB {list((right - left))[:3]}", flush=True)
    print(dict(outcomes))
    raise SystemExit(outcomes["different"] > 0)


main()
