# cmake, make, gcc and g++ building this project with its tests.
# shellcheck shell=bash disable=SC2034,SC2154
needs=(cmake make gcc g++)

drive() {
    mkdir "$work/build"
    checked cmake -S "$project" -B "$work/build" -DBERTH_TESTS=ON -DBERTH_HWLOC=OFF >configure.log
    checked make -C "$work/build" -j2 >make.log
    (cd "$work/build" && md5sum ./*.so libberth-malloc.a)
    rm -rf "$work/build" # in the same place each time, because its name is in the libraries
}
