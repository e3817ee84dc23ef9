# What the lints share; sourced, with the root of the repository as the working directory.

jobs=${JOBS:-$(nproc)}

# How arena/ is compiled, in the configuration that shows most of it.
flags=(-std=c11 -Iarena -Iinclude -D_GNU_SOURCE -DBERTH_DEBUG=1 -DBERTH_FAULTS=1
    -DBERTH_HARDENED=0)
library_flags=(-DBERTH_DOOR=0 -DBERTH_HWLOC=1 -DBERTH_MICROHTTPD=1)
door_flags=(-DBERTH_DOOR=1 -DBERTH_HWLOC=0)

# The sources of the library, and those of the door; of the arguments, if there are any.
take_sources() {
    [ $# -gt 0 ] || mapfile -t set_of_sources < <(find arena -name '*.c' | sort)
    [ $# -eq 0 ] || set_of_sources=("$@")
    mapfile -t library_sources < <(printf '%s\n' "${set_of_sources[@]}" | grep -v '^arena/malloc/')
    mapfile -t door_sources < <(printf '%s\n' "${set_of_sources[@]}" | grep '^arena/malloc/')
}

# on_each FILE... -- COMMAND...: runs the command for each file, which takes the place of {}, several
# at once. Fails if one does.
on_each() {
    local files=()
    while [ "$1" != -- ]; do
        files+=("$1")
        shift
    done
    shift
    [ ${#files[@]} -eq 0 ] || printf '%s\0' "${files[@]}" | xargs -0 -P "$jobs" -I '{}' "$@"
}

need() {
    command -v "$1" >/dev/null && return
    echo "$1 was not found: run cmake/need-packages lint"
    exit 1
}
