# gcc and g++: the same objects of files of this project.
# shellcheck shell=bash disable=SC2034,SC2154
needs=(gcc g++)

compile() {
    checked "$@" -I"$project/arena" -I"$project/include" -D_GNU_SOURCE -DBERTH_DEBUG=0 \
        -DBERTH_DOOR=1 -DBERTH_FAULTS=0 -DBERTH_HARDENED=0 -DBERTH_HWLOC=0 -c
}

drive() {
    for file in heap/heap heap/runs chunk/space metrics/write pool/options; do
        compile gcc -O3 "$project/arena/$file.c" -o "$(basename $file).o"
    done
    compile g++ -O2 -std=c++17 "$project/tests/edges/operators.cc" -o operators.o
    md5sum ./*.o
}
