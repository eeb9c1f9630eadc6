"""Runs statements on DuckDB for a comparison: a JSON line in, a JSON line out.

A request is {"sql": …, "parameters": […]}; the response has the rows and the nanoseconds until they were
fetched, or an error. Bytes are {"base64": …}.
"""

import base64
import json
import os
import sys
import time

import duckdb


def encoded(value):
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(value).decode()}
    return value


def run(connection, request):
    started = time.perf_counter_ns()
    rows = connection.execute(request["sql"], request["parameters"]).fetchall()
    nanos = time.perf_counter_ns() - started
    return {"rows": [[encoded(value) for value in row] for row in rows], "nanos": nanos}


def main():
    # Whatever else is printed, such as the progress of long statements, must not come between responses.
    responses = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    connection = duckdb.connect(":memory:")
    for line in sys.stdin:
        try:
            response = run(connection, json.loads(line))
        except duckdb.Error as error:
            response = {"error": str(error)}
        print(json.dumps(response), file=responses, flush=True)


main()
