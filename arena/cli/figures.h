/*
 * Figures of a process that was read, by name, and how people read them.
 */
#ifndef BERTH_CLI_FIGURES_H
#define BERTH_CLI_FIGURES_H

#include "cli/page_read.h"

#include <stdio.h>

enum { BERTH_SIZE_TEXT = 16 };

/* "12.1M", as in options and for columns; "none" for the largest number. Returns `text`. */
const char *berth__short_size(char text[BERTH_SIZE_TEXT], uint64_t bytes);

/* "12.1 MiB", for estimates. Returns `text`. */
const char *berth__long_size(char text[BERTH_SIZE_TEXT], double bytes);

/* Where a level's rows have the figure of that name; -1: nowhere. */
int berth__stats_column(const struct berth__stats *stats, enum berth__level level,
                        const char *name);

/* The figure of a row of a level; 0 if the page has none of that name. */
uint64_t berth__stats_row_figure(const struct berth__stats *stats, enum berth__level level,
                                 const struct berth__row *row, const char *name);

/* The sum of a figure over all rows of a level. */
uint64_t berth__stats_sum(const struct berth__stats *stats, enum berth__level level,
                          const char *name);

/* A text in JSON, with its quotes. */
void berth__json_string(FILE *to, const char *text);

#endif
