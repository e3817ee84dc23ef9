# nginx: static files, gzip and a proxy, with workers that are replaced under load.
# shellcheck shell=bash disable=SC2034,SC2154
needs=(nginx ab curl)

write_configuration() {
    cat >nginx.conf <<END
user $(id -un);
worker_processes 2;
daemon off;
pid $directory/pid;
error_log $directory/errors;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path $directory/body;
    proxy_temp_path $directory/proxy;
    fastcgi_temp_path $directory/fastcgi;
    uwsgi_temp_path $directory/uwsgi;
    scgi_temp_path $directory/scgi;
    server {
        listen 127.0.0.1:$port;
        root $directory/files;
        gzip on;
        gzip_types *;
        location /proxied/ { proxy_pass http://127.0.0.1:$port/; }
    }
}
END
}

make_files() {
    mkdir files
    for size in 0 1 100 5000 70000 900000; do
        seq 1000000 | head -c $size >files/$size
    done
}

fetch_all() {
    for file in files/*; do
        for option in --no-compressed --compressed; do
            for prefix in '' proxied/; do
                curl -sf $option "http://127.0.0.1:$port/$prefix${file#files/}" | md5sum
            done
        done
    done
}

# Those of an older configuration may end meanwhile.
workers_are_loaded() {
    local worker count=0
    for worker in $(pgrep -P "$server"); do
        cat "/proc/$worker/maps" >maps 2>/dev/null && [ -s maps ] || continue
        count=$((count + 1))
        [ "$way" = plain ] || grep -q "$library" maps || fail "the door is not in worker $worker"
    done
    [ $count -gt 0 ] || fail "there are no workers"
}

drive() {
    find_port
    write_configuration
    make_files
    serve nginx -p "$directory" -c "$directory/nginx.conf" -e "$directory/errors"
    until_true curl -sf "http://127.0.0.1:$port/1"
    loaded "$server"
    ab -q -n 5000 -c 20 "http://127.0.0.1:$port/proxied/5000" >ab.out 2>&1 &
    load=$!
    for _ in 1 2 3; do
        sleep 0.3
        kill -s HUP "$server"
    done
    wait $load || fail "ab: $(tail -n 3 ab.out)"
    grep -E '^(Failed|Non-2xx)' ab.out
    fetch_all
    workers_are_loaded
    stop "$server" QUIT
    grep -E 'alert|emerg|crit' errors
    return 0
}
