/*
 * Writing a heap profile: for pprof, for jeprof, as folded stacks, as a flame graph, as tables.
 */
#ifndef BERTH_CLI_PROFILE_WRITE_H
#define BERTH_CLI_PROFILE_WRITE_H

#include "cli/profile.h"

#include <stdio.h>

/* What a profile is about. */
enum berth__profile_measure {
    BERTH_PROFILE_HELD,      /* what is held now */
    BERTH_PROFILE_ALLOCATED, /* what was allocated, freed since or not */
    BERTH_PROFILE_PEAK,      /* what was held when all together was most */
};

enum berth__profile_by { BERTH_BY_SITE, BERTH_BY_LIBRARY, BERTH_BY_CLASS };

struct berth__amount berth__profile_amount(const struct berth__profile_site *site,
                                           enum berth__profile_measure measure);

/* profile.proto, compressed; allocated and held, or at its peak, with the names of functions. False
 * without memory. */
bool berth__profile_write_pprof(FILE *to, struct berth__profile *profile,
                                enum berth__profile_measure measure);

/* The text that jeprof and google-pprof read: addresses, and the process's maps. */
void berth__profile_write_text(FILE *to, struct berth__profile *profile,
                               enum berth__profile_measure measure);

/* "main;f;g 123": a line for each stack, outermost first, with its bytes. */
void berth__profile_write_folded(FILE *to, struct berth__profile *profile,
                                 enum berth__profile_measure measure);

/* A flame graph; false without memory. */
bool berth__profile_write_svg(FILE *to, struct berth__profile *profile,
                              enum berth__profile_measure measure, const char *title);

/* For people: the largest first, `most` rows. */
bool berth__profile_write_table(FILE *to, struct berth__profile *profile,
                                enum berth__profile_measure measure, enum berth__profile_by by,
                                unsigned most);

/* Sites by what they hold, with the age of the oldest. */
bool berth__profile_write_ages(FILE *to, struct berth__profile *profile, unsigned most);

/* The place that a stack's allocation is put down to: the first that is neither in berth nor in one
 * of the language runtimes, which allocate for others. A return address; 0: the stack is not known.
 */
uint64_t berth__profile_place(struct berth__profile *profile,
                              const struct berth__profile_site *site);

/* The library that such a place is in. */
const char *berth__profile_library(struct berth__profile *profile, uint64_t place);

#endif
