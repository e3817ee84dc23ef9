# redis-server: its benchmark, persistence by fork, reload, FLUSHALL.
# shellcheck shell=bash disable=SC2034,SC2154
needs=(redis-server redis-cli redis-benchmark)

ask() {
    redis-cli -p "$port" "$@"
}

start_redis() {
    serve redis-server --port "$port" --bind 127.0.0.1 --dir "$directory" --save '' \
        --appendonly yes --enable-debug-command local --daemonize no
    until_true ask ping
    loaded "$server"
    until_true is loading:0
}

is() {
    ask info persistence | tr -d '\r' | grep -qx "$1"
}

# Values of 1 to 4000 bytes, lists, hashes and sorted sets.
fill() {
    awk 'BEGIN {
        for (i = 0; i < 12000; i++) {
            v = sprintf("%*d", (i * 7919) % (i % 50 ? 400 : 4000) + 1, i); gsub(" ", "x", v)
            print "SET key:" i " " v
            print "RPUSH list:" i % 100 " " v
            print "HSET hash:" i % 300 " field:" i " " v
            print "ZADD zset:" i % 50 " " i * 31 % 1000 " member:" i
            if (i % 3 == 0) print "DEL key:" i - 300
        }
    }' | ask --pipe | grep errors
}

drive() {
    find_port
    start_redis
    redis-benchmark -p "$port" -q -P 8 -n 10000 -d 300 -r 5000 \
        -t set,get,incr,lpush,rpop,sadd,hset,zadd,mset >/dev/null || fail "redis-benchmark"
    ask flushall
    fill
    ask bgsave >/dev/null
    fill # while the child writes
    until_true is rdb_bgsave_in_progress:0
    is rdb_last_bgsave_status:ok || fail "BGSAVE"
    ask bgrewriteaof >/dev/null
    fill
    until_true is aof_rewrite_in_progress:0
    is aof_last_bgrewrite_status:ok || fail "BGREWRITEAOF"
    ask debug digest
    stop "$server"
    start_redis
    ask debug digest
    ask debug reload
    ask debug digest
    ask flushall
    ask dbsize
    fill
    ask debug digest
    ask shutdown nosave
    wait "$server" || fail "redis-server ended with status $?"
}
