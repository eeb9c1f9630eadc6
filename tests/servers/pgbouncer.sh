#!/usr/bin/env bash
# A private PgBouncer for the tests, in front of the PostgreSQL of BROADSIDE_POSTGRES_URL.
#
#   pgbouncer.sh start [DIR]   start it, after installing PgBouncer if necessary; prints `export …` lines
#   pgbouncer.sh stop [DIR]    stop it and remove its files
#
# It provides the server's database with three configurations, each with an address:
#
#   BROADSIDE_PGBOUNCER_SESSION_URL       pools sessions; drops `options`
#   BROADSIDE_PGBOUNCER_TRANSACTION_URL   pools transactions; drops `options`
#   BROADSIDE_PGBOUNCER_URL               pools sessions; rejects `options`, as PgBouncer does by default
#
# `ignore_startup_parameters` applies to a whole process, so there are two processes.
set -euo pipefail

command=${1:-}
dir=${2:-$(dirname "$0")/../../target/servers/pgbouncer}

fail() {
    echo "pgbouncer.sh: $*" >&2
    exit 1
}

find_binary() {
    command -v pgbouncer || { [ -x /usr/sbin/pgbouncer ] && echo /usr/sbin/pgbouncer; } || true
}

install() {
    command -v apt-get >/dev/null || fail "PgBouncer is not installed, and there is no apt-get: install it, with pgbouncer in the PATH"
    [ "$(id -u)" = 0 ] || fail "PgBouncer is not installed: run 'sudo apt-get install pgbouncer', or run this once as root"
    echo "pgbouncer.sh: installing PgBouncer" >&2
    {
        apt-get update
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends pgbouncer
        # Stops the process that the package has started.
        service pgbouncer stop || true
    } >&2
}

# PgBouncer does not run as root, so it then runs as the user of its package.
as_owner() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

free_port() {
    local port
    while :; do
        port=$((RANDOM % 16384 + 16384))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# If the user of the server has no access to the directory, the data are stored elsewhere.
place_data() {
    mkdir -p "$dir"
    dir=$(cd "$dir" && pwd)
    data=$dir/data
    if [ "$(id -u)" = 0 ]; then
        data=$(mktemp -d /var/tmp/broadside-pgbouncer-XXXXXX)
        chown postgres "$data"
    else
        mkdir -p "$data"
    fi
    echo "$data" >"$dir/place"
}

# Splits postgres://user:password@host:port/database?…
parse_url() {
    local pattern='^postgres(ql)?://([^:@/]+):([^@/]+)@([^:/?]+):([0-9]+)/([^?]+)'
    [[ ${BROADSIDE_POSTGRES_URL:-} =~ $pattern ]] || fail "BROADSIDE_POSTGRES_URL must be postgres://user:password@host:port/database"
    user=${BASH_REMATCH[2]} password=${BASH_REMATCH[3]} host=${BASH_REMATCH[4]} server_port=${BASH_REMATCH[5]}
    database=${BASH_REMATCH[6]}
}

# run NAME [SETTING…]: starts a process with the common settings and the given ones. Prints its port.
run() {
    local name=$1 port target
    shift
    port=$(free_port)
    target="host=$host port=$server_port dbname=$database"
    {
        echo "[databases]"
        echo "session = $target pool_mode=session"
        echo "transaction = $target pool_mode=transaction"
        echo "[pgbouncer]"
        echo "listen_addr = 127.0.0.1"
        echo "listen_port = $port"
        echo "unix_socket_dir ="
        echo "auth_type = scram-sha-256"
        echo "auth_file = $data/users"
        echo "logfile = $data/$name.log"
        echo "pidfile = $data/$name.pid"
        echo "max_client_conn = 200"
        echo "default_pool_size = 20"
        echo "server_connect_timeout = 2"
        printf '%s\n' "$@"
    } | as_owner tee "$data/$name.ini" >/dev/null
    as_owner "$binary" --quiet --daemon "$data/$name.ini" >&2
    for _ in $(seq 200); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
        sleep 0.05
    done
    cat "$data/$name.log" >&2
    fail "PgBouncer did not start"
}

start() {
    binary=$(find_binary)
    if [ -z "$binary" ]; then
        install
        binary=$(find_binary)
        [ -n "$binary" ] || fail "PgBouncer was installed but is nowhere to be found"
    fi
    parse_url
    if [ -e "$dir/place" ]; then
        stop
    fi
    place_data
    echo "\"$user\" \"$password\"" | as_owner tee "$data/users" >/dev/null
    local dropping refusing
    dropping=$(run dropping "ignore_startup_parameters = options")
    refusing=$(run refusing)
    local login="postgres://$user:$password@127.0.0.1"
    echo "export BROADSIDE_PGBOUNCER_SESSION_URL='$login:$dropping/session?sslmode=disable'"
    echo "export BROADSIDE_PGBOUNCER_TRANSACTION_URL='$login:$dropping/transaction?sslmode=disable'"
    echo "export BROADSIDE_PGBOUNCER_URL='$login:$refusing/session?sslmode=disable'"
}

stop() {
    [ -e "$dir/place" ] || fail "no PgBouncer in $dir"
    local pid file
    data=$(cat "$dir/place")
    for file in "$data"/*.pid; do
        [ -e "$file" ] || continue
        pid=$(cat "$file")
        kill -TERM "$pid" 2>/dev/null || true
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
    done
    rm -rf "$data" "$dir"
}

case $command in
start) start ;;
stop) stop ;;
*) fail "usage: pgbouncer.sh start|stop [DIR]" ;;
esac
