#!/usr/bin/env bash
# A private ClickHouse engine for the tests: chDB behind fixtures/clickhouse-front/front.py, whose header documents its
# limits.
#
#   clickhouse.sh start [DIR]   start it, after fetching the engine if necessary; prints `export …` lines
#   clickhouse.sh stop [DIR]    stop it and remove its data
#   clickhouse.sh kill [DIR]    kill it; `resume` starts it again with its data
#   clickhouse.sh resume [DIR]  start it again on the same port
#   clickhouse.sh test          run the front's own tests
#
# The file DIR/profile with lines `name=value` is the profile of its user.
# DIR (target/servers/clickhouse by default) is the server's directory. PASSWORD, if set, is that of its user `default`.
# QUORUM is the time in seconds for which an insert on the cluster waits for its quorum.
# With TLS=1 the server has TLS; DIR/certificates contains ca.crt, and client.pem for the user `default`.
# With BROADSIDE_CLICKHOUSE_URL set, `start` without DIR does nothing: that server is used.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
command=${1:-}
dir=${2:-$root/target/servers/clickhouse}
engine=$root/target/servers/chdb
version=26.9.0

fail() {
    echo "clickhouse.sh: $*" >&2
    exit 1
}

# All servers share one engine; a lock prevents concurrent installations.
install() {
    mkdir -p "$engine"
    (
        flock 9
        if ! "$engine/venv/bin/python" -c 'import chdb.session' 2>/dev/null; then
            echo "clickhouse.sh: fetching the ClickHouse engine (chdb-core $version, about 180 MB)" >&2
            python3 -m venv "$engine/venv" >&2 || fail "python3 with its venv module is needed"
            "$engine/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "chdb-core==$version" >&2
        fi
    ) 9>"$engine/lock"
}

# Creates a certificate authority, and the certificates of the server and of the user `default`.
make_certificates() {
    local made=$dir/certificates name
    mkdir -p "$made"
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=Broadside test authority" \
        -keyout "$made/ca.key" -out "$made/ca.crt" 2>/dev/null
    for name in server client; do
        openssl req -newkey rsa:2048 -nodes -subj "/CN=default" -keyout "$made/$name.key" 2>/dev/null |
            openssl x509 -req -CA "$made/ca.crt" -CAkey "$made/ca.key" -CAcreateserial -days 30 \
                -extfile <(echo "subjectAltName=DNS:localhost") -out "$made/$name.crt" 2>/dev/null
    done
    cat "$made/client.crt" "$made/client.key" >"$made/client.pem"
}

# Starts the front on a port, 0 for a free one, and waits until it responds.
run() {
    rm -f "$dir/port"
    PYTHONDONTWRITEBYTECODE=1 setsid "$engine/venv/bin/python" "$root/fixtures/clickhouse-front/front.py" \
        --data "$dir/data" --port "$1" --port-file "$dir/port" --password "${PASSWORD:-}" \
        --profile "$dir/profile" --quorum "${QUORUM:-0.002}" ${TLS:+--certificates "$dir/certificates"} \
        >"$dir/log" 2>&1 9>&- </dev/null &
    echo $! >"$dir/pid"
    for _ in $(seq 600); do
        [ -s "$dir/port" ] && return
        kill -0 "$(cat "$dir/pid")" 2>/dev/null || break
        sleep 0.05
    done
    cat "$dir/log" >&2
    fail "the front did not start"
}

# Sends a signal to the front and waits for its end.
end() {
    [ -e "$dir/pid" ] || return 0
    local pid
    pid=$(cat "$dir/pid")
    kill "-$1" "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done
    rm -f "$dir/pid"
}

case $command in
start)
    if [ -n "${BROADSIDE_CLICKHOUSE_URL:-}" ] && [ $# -lt 2 ]; then
        exit 0
    fi
    install
    end KILL
    rm -rf "$dir"
    mkdir -p "$dir"
    [ -z "${TLS:-}" ] || make_certificates
    run 0
    cp "$dir/port" "$dir/kept-port"
    server=http://127.0.0.1
    [ -z "${TLS:-}" ] || server=https://localhost
    address="clickhouse+$server:$(cat "$dir/port")/?compression=none"
    echo "export BROADSIDE_CLICKHOUSE_URL='$address'"
    echo "export BROADSIDE_CLICKHOUSE_CLUSTER_URL='$address&cluster=tests'"
    ;;
stop)
    end TERM
    rm -rf "$dir"
    ;;
kill)
    end KILL
    ;;
resume)
    run "$(cat "$dir/kept-port")"
    ;;
test)
    install
    cd "$root/fixtures/clickhouse-front"
    PYTHONDONTWRITEBYTECODE=1 "$engine/venv/bin/python" -m unittest -q test_front
    ;;
*)
    fail "use start, stop, kill, resume or test"
    ;;
esac
