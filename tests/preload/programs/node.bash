# node: texts, buffers, workers, garbage collection, compression, child processes.
# shellcheck shell=bash disable=SC2034
needs=(node)

drive() {
    checked node --expose-gc "$here/programs/node.js"
}
