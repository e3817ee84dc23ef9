# haproxy in front of two nginx: HTTP and TLS, compression, a reload by a second process.
# shellcheck shell=bash disable=SC2034,SC2154
needs=(haproxy nginx ab curl openssl)

write_backend() {
    cat >"backend$1" <<END
user $(id -un);
worker_processes 1;
daemon off;
pid $directory/pid$1;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path $directory/body;
    proxy_temp_path $directory/proxy;
    fastcgi_temp_path $directory/fastcgi;
    uwsgi_temp_path $directory/uwsgi;
    scgi_temp_path $directory/scgi;
    server { listen 127.0.0.1:$1; root $directory/files; }
}
END
}

write_configuration() {
    openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -subj /CN=localhost \
        -days 2 2>/dev/null || fail "openssl"
    cat cert key >both.pem
    cat >configuration <<END
global
    nbthread 3
    maxconn 400
    pidfile $directory/pid
    stats socket $directory/control mode 600 level admin expose-fd listeners
defaults
    mode http
    timeout connect 5s
    timeout client 20s
    timeout server 20s
frontend front
    bind 127.0.0.1:$front
    bind 127.0.0.1:$secure ssl crt $directory/both.pem
    compression algo gzip
    default_backend back
backend back
    balance roundrobin
    server one 127.0.0.1:$one
    server two 127.0.0.1:$two
END
}

find_ports() {
    find_port; one=$port
    find_port; two=$port
    find_port; front=$port
    find_port; secure=$port
}

fetch_all() {
    for file in files/*; do
        for from in "http://127.0.0.1:$front" "https://127.0.0.1:$secure"; do
            curl -sfk --compressed "$from/${file#files/}" | md5sum
        done
    done
}

drive() {
    find_ports
    mkdir files
    for size in 1 3000 200000 3000000; do
        seq 1000000 | head -c $size >files/$size
    done
    for backend in $one $two; do
        write_backend "$backend"
        serve nginx -p "$directory" -c "$directory/backend$backend" -e "$directory/errors"
        backends="${backends-} $server"
        until_true curl -sf "http://127.0.0.1:$backend/1"
    done
    write_configuration
    serve haproxy -db -f configuration
    old=$server
    until_true curl -sf "http://127.0.0.1:$front/1"
    loaded "$old"
    ab -q -n 8000 -c 30 "http://127.0.0.1:$front/3000" >ab.out 2>&1 &
    load=$!
    sleep 0.5
    serve haproxy -db -f configuration -x "$directory/control" -sf "$old"
    until_true listens "$front"
    wait $load || fail "ab: $(tail -n 3 ab.out)"
    wait "$old"
    ab -q -n 2000 -c 20 "https://127.0.0.1:$secure/3000" >ab2.out 2>&1 || fail "ab with TLS"
    grep -hE '^(Failed|Non-2xx)' ab.out ab2.out
    loaded "$server"
    fetch_all
    kill -s USR1 "$server"
    wait "$server" || fail "haproxy ended with status $?"
    for backend in $backends; do
        stop "$backend" QUIT
    done
    backends=
}
