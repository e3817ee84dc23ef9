/*
 * Which of the two formats of metrics a request's "Accept:" prefers.
 */
#ifndef BERTH_CLI_ACCEPT_H
#define BERTH_CLI_ACCEPT_H

#include "metrics/exposition.h"

/* OpenMetrics only where it is named, in a version that we write, and nothing is preferred to it.
 * NULL: the request says nothing. */
enum berth__dialect berth__accept_dialect(const char *accept);

#endif
