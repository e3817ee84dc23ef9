"""The servers that can be recorded, and the load that each gets. All of them listen on loopback or
on a socket in the session's folder, and end with the session.

work: 100 is some seconds of load and a million calls or so where the server makes as many;
memcached and postgresql have allocators of their own above malloc, and call it seldom.
"""

import os
import pwd
import shutil
import subprocess

import memcached
import redis
from recording import Refused, command_of, free_port

NOBODY = 65534
FILES = {"small": 900, "page": 14_000, "image": 180_000, "large": 1_500_000}


def user_name():
    return pwd.getpwuid(os.getuid()).pw_name


def unprivileged():
    """What runs a command as nobody, where we are root and it refuses to be."""
    if os.getuid():
        return []
    return [command_of("setpriv", "util-linux"), f"--reuid={NOBODY}", f"--regid={NOBODY}",
            "--clear-groups", "--"]


def amount(full, work):
    return max(full * work // 100, 1)


# ---- redis ----

def record_redis(session, work):
    """redis-benchmark's usual commands, then 1 KiB values that are overwritten by shorter ones, and
    a child that saves."""
    for program in ("redis-server", "redis-benchmark"):
        redis.find(program)
    server = redis.Server(session.programs, session.recorder, session.folder)
    session.started.append(server.process)
    redis.drive(server, amount(20_000, work))
    keys = amount(50_000, work)
    server.client.ask(b"FLUSHALL", b"SYNC")
    server.client.set_all(keys, b"x" * 1024, 1)
    server.client.set_all(keys, b"y" * 300, redis.STRIDE)
    server.client.ask(b"BGSAVE")
    session.until(lambda: server.client.info()["rdb_bgsave_in_progress"] == "0", server.process,
                  "the save")
    server.stop()


# ---- nginx, and haproxy in front of it ----

NGINX = """user {user};
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/errors;
events {{ worker_connections 512; }}
http {{
    access_log off;
    keepalive_requests 100;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port};
        root {folder}/files;
        location /zipped/ {{ gzip on; gzip_types *; alias {folder}/files/; }}
        location /proxied/ {{ proxy_pass http://127.0.0.1:{port}/; }}
    }}
}}
"""

HAPROXY = """global
    nbthread 4
    maxconn 1000
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend front
    bind 127.0.0.1:{front}
    compression algo gzip
    compression type text/plain application/octet-stream
    default_backend back
backend back
    http-reuse safe
    server one 127.0.0.1:{back}
"""


def start_nginx(session, recorded):
    program = command_of("nginx", "nginx")
    port = free_port()
    os.mkdir(session.path("files"))
    for name, size in FILES.items():
        session.file(f"files/{name}", "".join(f"{i}\n" for i in range(size))[:size])
    session.file("nginx.conf", NGINX.format(user=user_name(), folder=session.folder, port=port))
    server = session.start(program, "-p", session.folder, "-c", session.path("nginx.conf"),
                           "-e", session.path("errors"), recorded=recorded)
    session.until_listens(port, server, "nginx")
    return server, port


def fetch(session, url, requests, connections, zipped=False):
    """A load of one page. ab makes a number of requests, wrk some seconds of them."""
    header = ["-H", "Accept-Encoding: gzip"] if zipped else []
    ab = shutil.which("ab")
    if ab:
        session.check(ab, "-q", "-k", "-r", "-n", str(requests), "-c", str(connections), *header,
                      url)
        return
    wrk = command_of("wrk", "apache2-utils, or wrk")
    session.check(wrk, "-t2", f"-c{connections}", f"-d{max(requests // 10_000, 1)}s", *header, url)


def fetch_all(session, base, work):
    fetch(session, f"{base}/small", amount(20_000, work), 50)
    fetch(session, f"{base}/page", amount(10_000, work), 100)
    fetch(session, f"{base}/image", amount(2000, work), 20)
    fetch(session, f"{base}/large", amount(300, work), 10)


def record_nginx(session, work):
    """Files of 900 bytes to 1.5 MB: plain, zipped, and through a proxy."""
    server, port = start_nginx(session, True)
    base = f"http://127.0.0.1:{port}"
    fetch_all(session, base, work)
    fetch(session, f"{base}/zipped/page", amount(4000, work), 50, zipped=True)
    fetch_all(session, f"{base}/proxied", work)
    session.stop(server)


def record_haproxy(session, work):
    """Four threads in front of an nginx; the same files, some of them zipped."""
    program = command_of("haproxy", "haproxy")
    _, back = start_nginx(session, False)
    front = free_port()
    session.file("haproxy.cfg", HAPROXY.format(front=front, back=back))
    server = session.start(program, "-db", "-f", session.path("haproxy.cfg"))
    session.until_listens(front, server, "haproxy")
    base = f"http://127.0.0.1:{front}"
    fetch_all(session, base, work)
    fetch(session, f"{base}/page", amount(4000, work), 50, zipped=True)
    session.stop(server)


# ---- memcached ----

def record_memcached(session, work):
    """Sets, gets and deletes of 1 byte to 200 KiB, beyond its memory; connections come and go."""
    program = command_of("memcached", "memcached")
    port = free_port()
    user = [] if os.getuid() else ["-u", "nobody"]
    server = session.start(program, "-l", "127.0.0.1", "-p", str(port), "-m", "64", "-t", "4",
                           *user)
    session.until_listens(port, server, "memcached")
    memcached.drive(port, amount(12_000, work))
    session.stop(server)


# ---- postgresql ----

QUERIES = """
create table t as select i, md5(i::text) as m, repeat('x', i % 900) as r
    from generate_series(1, {rows}) i;
create index on t(m);
analyze t;
select substr(m, 1, 2) as k, string_agg(m, ',' order by i) from t group by 1;
select count(*) from t a join t b on a.m = b.m where a.i % 3 = 0;
select md5(jsonb_agg(to_jsonb(t) order by i)::text) from t where i < {rows} / 4;
select md5(string_agg(regexp_replace(m, '[0-9]+', '-', 'g'), '' order by i)) from t;
"""

# What each client of pgbench asks, again and again.
SCRIPT = """\\set first random(1, {rows} - 500)
select string_agg(upper(m), ',' order by m desc) from t where i between :first and :first + 300;
select jsonb_object_agg(m, r) from t where i between :first and :first + 40;
select substr(m, 1, 1), count(*), array_agg(i) from t where i between :first and :first + 400
    group by 1;
update t set r = repeat('y', i % 700) where i = :first;
"""


def postgres_command(name):
    """Debian keeps the server's programs out of the path."""
    base = "/usr/lib/postgresql"
    versions = sorted(os.listdir(base), key=float) if os.path.isdir(base) else []
    for version in reversed(versions):
        path = os.path.join(base, version, "bin", name)
        if os.access(path, os.X_OK):
            return path
    return command_of(name, "postgresql")


def record_postgresql(session, work):
    """Queries that sort, hash and aggregate, from one client and then from four."""
    initdb, postgres, pgbench, psql = (postgres_command(name)
                                       for name in ("initdb", "postgres", "pgbench", "psql"))
    data, rows = session.path("data"), amount(60_000, work) + 1000
    session.check(*unprivileged(), initdb, "-D", data, "-U", "owner", "-A", "trust",
                  "--no-locale", "-E", "UTF8", "-N", cwd=session.folder)
    server = session.start(*unprivileged(), postgres, "-D", data, "-k", session.folder, "-c",
                           "listen_addresses=", "-c", "fsync=off", "-c", "jit=off")
    client = ["-h", session.folder, "-U", "owner"]

    def answers():
        try:
            return bool(session.check(psql, *client, "-d", "postgres", "-Atc", "select 1"))
        except Refused:
            return False

    session.until(answers, server, "postgres")
    queries = session.file("queries.sql", QUERIES.format(rows=rows))
    session.check(psql, *client, "-d", "postgres", "-AtXq", "-v", "ON_ERROR_STOP=1", "-o",
                  os.devnull, "-f", queries)
    script = session.file("script.sql", SCRIPT.format(rows=rows))
    session.check(pgbench, *client, "-n", "-c", "4", "-j", "2", "-t", str(amount(400, work)), "-f",
                  script, "postgres")
    session.stop(server)


SERVERS = {
    "redis": record_redis,
    "nginx": record_nginx,
    "memcached": record_memcached,
    "haproxy": record_haproxy,
    "postgresql": record_postgresql,
}


def record(session, name, work):
    """Runs the server and its load. Refused says why it could not."""
    try:
        SERVERS[name](session, work)
    except (redis.Refused, OSError, subprocess.TimeoutExpired) as error:
        raise Refused(str(error)) from error
