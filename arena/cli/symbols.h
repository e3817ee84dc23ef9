/*
 * What addresses in another process are: functions, lines and libraries.
 *
 * By libdw, from the files that the process has mapped and what debug information there is for
 * them; without libdw (BERTH_LIBDW 0), and for code that is in no file, libraries and offsets only.
 */
#ifndef BERTH_CLI_SYMBOLS_H
#define BERTH_CLI_SYMBOLS_H

#include "base/compiler.h"

#include <stdio.h>
#include <sys/types.h>

/* A mapping of the process. */
struct berth__mapping {
    uint64_t start, end, offset;
    bool executable;
    const char *path; /* "" if it is of no file */
};

/* Texts live as long as the symbols. */
struct berth__symbol_at {
    const char *function; /* demangled; "libx.so+0x12ab" if unknown */
    const char *file;     /* NULL if unknown */
    unsigned line;
    const struct berth__mapping *mapping; /* NULL: in none */
};

struct berth__symbols;

/* NULL if the process's mappings cannot be read, or there is no memory. */
struct berth__symbols *berth__symbols_open(pid_t pid);
void berth__symbols_close(struct berth__symbols *symbols);

/* The call before a return address. */
const struct berth__symbol_at *berth__symbols_find(struct berth__symbols *symbols,
                                                   uint64_t return_address);

const struct berth__mapping *berth__symbols_mapping(const struct berth__symbols *symbols,
                                                    uint64_t address);

/* All mappings, in order of address; and /proc/PID/maps as it was. */
const struct berth__mapping *berth__symbols_mappings(const struct berth__symbols *symbols,
                                                     size_t *count);
const char *berth__symbols_maps(const struct berth__symbols *symbols);

/* The name of the library or program that a return address is in; "[no file]". */
const char *berth__symbols_library(const struct berth__symbols *symbols, uint64_t return_address);

/* True if what stands for its function names the library already, or there is none. */
bool berth__symbol_is_offset(const struct berth__symbol_at *symbol);

/* "f (file.c:12)", or "f (libx.so)". */
void berth__symbols_write(FILE *to, struct berth__symbols *symbols, uint64_t return_address);

/* Of a stack, innermost first, what is the program's: without berth's own places at its beginning,
 * up to the first that is no code, as the rest is not a stack then. Returns how many there are from
 * places[*first] on. */
unsigned berth__symbols_trim(const struct berth__symbols *symbols, const uint64_t *places,
                             unsigned depth, unsigned *first);

/* The part of a path behind its last slash. */
const char *berth__file_name(const char *path);

/* True for berth's own libraries. */
bool berth__mapping_is_own(const struct berth__mapping *mapping);

#endif
