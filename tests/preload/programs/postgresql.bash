# postgresql: initdb, pgbench, parallel queries, restart; as an unprivileged user.
# shellcheck shell=bash disable=SC2034,SC2154
newest=$(find /usr/lib/postgresql -maxdepth 1 -mindepth 1 2>/dev/null | sort -V | tail -n 1)
PATH=${newest:-/nowhere}/bin:$PATH
needs=(initdb postgres pgbench psql setpriv)

# as_user COMMAND...: root must not start it.
as_user() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid=65534 --regid=65534 --clear-groups -- env HOME="$directory" "$@"
    else
        "$@"
    fi
}

ask() {
    psql -h "$directory" -p "$port" -U owner -d postgres -AtXq "$@"
}

start_postgres() {
    if [ "$(id -u)" -eq 0 ]; then
        serve setpriv --reuid=65534 --regid=65534 --clear-groups -- postgres -D "$directory/data" \
            -p "$port" -k "$directory" -c listen_addresses= -c fsync=off
    else
        serve postgres -D "$directory/data" -p "$port" -k "$directory" -c listen_addresses= \
            -c fsync=off
    fi
    until_true ask -c 'select 1'
    loaded "$(head -n 1 data/postmaster.pid)"
    loaded "$(ask -c 'select pg_backend_pid() from pg_sleep(0)' >/dev/null; pgrep -P "$server" | head -n 1)"
}

queries() {
    ask <<'END'
create table t as select i, md5(i::text) as m, repeat('x', i % 900) as r from generate_series(1, 150000) i;
create index on t(m);
analyze t;
set max_parallel_workers_per_gather = 2;
set parallel_setup_cost = 0;
set parallel_tuple_cost = 0;
select count(*), sum(length(r)), max(m) from t;
select substr(m, 1, 2) as k, count(*), string_agg(m, ',' order by i) from t where i < 20000 group by 1 order by 2 desc, 1 limit 3;
select count(*) from t a join t b on a.m = b.m where a.i % 3 = 0;
select md5(jsonb_agg(to_jsonb(t) order by i)::text) from t where i < 8000;
do $$ begin for i in 1..3000 loop perform regexp_replace(repeat('ab', i % 300), 'a(b)', '\1', 'g'); end loop; end $$;
select md5(string_agg(regexp_replace(m, '[0-9]+', '-', 'g'), '' order by i)) from t;
vacuum full t;
END
}

drive() {
    find_port
    chmod 777 "$directory"
    under as_user initdb -D "$directory/data" -U owner -A trust --no-locale -E UTF8 -N \
        >initdb.log 2>&1 || fail "initdb: $(tail -n 3 initdb.log)"
    start_postgres
    pgbench -h "$directory" -p "$port" -U owner -i -q -s 3 postgres >/dev/null 2>&1 || fail "pgbench -i"
    pgbench -h "$directory" -p "$port" -U owner -n -c 8 -j 2 -t 400 postgres >pgbench.log 2>&1 ||
        fail "pgbench: $(tail -n 3 pgbench.log)"
    grep 'failed transactions' pgbench.log
    ask -c 'select count(*) from pgbench_history'
    ask -c 'select sum(abalance) = (select sum(delta) from pgbench_history) from pgbench_accounts'
    queries
    stop "$server" INT
    start_postgres
    ask -c 'select count(*), sum(length(r)) from t'
    stop "$server" INT
}
