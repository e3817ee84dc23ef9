# java: compiled and run, with direct buffers, threads, compression, each garbage collector.
# shellcheck shell=bash disable=SC2034,SC2154
needs=(java javac)

drive() {
    checked javac -d . "$here/programs/Work.java"
    for collector in -XX:+UseSerialGC -XX:+UseParallelGC -XX:+UseG1GC '-XX:+UseG1GC -Xcomp'; do
        # shellcheck disable=SC2086 # a list of options
        checked java $collector -Xmx400m -XX:MaxDirectMemorySize=100m -cp . Work
    done
}
