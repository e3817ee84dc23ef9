# python3: dictionaries, texts, numbers, threads, and processes that fork.
# shellcheck shell=bash disable=SC2034
needs=(/usr/bin/python3)

drive() {
    checked /usr/bin/python3 "$here/programs/python3.py"
}
