# perl: hashes, sorting, texts that grow, regular expressions, children by fork.
# shellcheck shell=bash disable=SC2034
needs=(perl)

drive() {
    checked perl "$here/programs/perl.pl"
}
