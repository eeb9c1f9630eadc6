"""Executes statements on DuckDB for a comparison. Requests and responses are lines of JSON.

A request is {"sql": …, "parameters": […]}. The response has the rows and the time until they were fetched, in
nanoseconds, or an error. Bytes are {"base64": …}.
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
    # Other output, such as the progress of long statements, must not be written between responses.
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
