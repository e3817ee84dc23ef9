# git: commits, a clone, garbage collection with threads, fsck, blame.
# shellcheck shell=bash disable=SC2034,SC2154
needs=(git)
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_AUTHOR_DATE='1700000000 +0000'
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org GIT_COMMITTER_DATE='1700000000 +0000'
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1

fill_repository() {
    cp -r "$project/arena" "$project/include" repository
    for i in $(seq 12); do
        find repository/arena -name '*.c' | sort | awk "NR % 12 == $i % 12" |
            while read -r file; do sed -i "1i // $i" "$file"; done
        under git -C repository add .
        under git -C repository commit -q -m "commit $i"
    done
}

drive() {
    checked git init -q -b main repository
    fill_repository
    checked git clone -q --no-local repository clone
    checked git -C clone -c pack.threads=4 gc -q --aggressive
    checked git -C clone fsck --strict
    git -C clone log --format='%H %T'
    checked git -C clone blame -s arena/heap/heap.c | md5sum
    checked git -C clone log -p --stat | md5sum
    checked git -C clone archive main | md5sum
}
