/*
 * What `berth export` answers, as text: metrics for Prometheus, JSON, and the web page.
 *
 * Made of a survey; each function writes one answer. No answer depends on what a process calls
 * itself: names are escaped for the form that they stand in.
 */
#ifndef BERTH_CLI_ANSWERS_H
#define BERTH_CLI_ANSWERS_H

#include "cli/survey.h"
#include "metrics/exposition.h"

#include <stdio.h>

/* All processes. levels: BERTH_METRICS_POOLS and so on. False: there is no memory. */
bool berth__answer_metrics(FILE *to, const struct berth__survey *survey,
                           enum berth__dialect dialect, unsigned levels);

/* A line for each process, or all that is known of each. pid: only that one; 0: all. */
void berth__answer_list(FILE *to, const struct berth__survey *survey);
void berth__answer_json(FILE *to, const struct berth__survey *survey, pid_t pid);

/* The points of one process that are later than `after_ms`. */
void berth__answer_history(FILE *to, const struct berth__surveyed *surveyed, uint64_t after_ms);

/* What the metrics mean. */
void berth__answer_tables(FILE *to);

/* The web page, whose style and script are allowed by a number that is used once. */
void berth__answer_page(FILE *to, const char *nonce);

#endif
