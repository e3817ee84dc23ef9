# memcached: sets, gets and deletes of values from 1 byte to 400 KiB on several connections, beyond
# its memory.
# shellcheck shell=bash disable=SC2034,SC2154
needs=(memcached python3)

drive() {
    find_port
    serve memcached -l 127.0.0.1 -p "$port" -m 24 -t 2 -u nobody -c 200
    until_true listens "$port"
    loaded "$server"
    python3 "$here/programs/memcached.py" "$port" || fail "the client"
    stop "$server"
}
