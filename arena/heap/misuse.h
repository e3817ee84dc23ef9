/*
 * What is said when a program hands back what it should not: one line, then abort.
 */
#ifndef BERTH_HEAP_MISUSE_H
#define BERTH_HEAP_MISUSE_H

#include "base/compiler.h"

/* "berth: <fault>: pointer 0x.. (<what lies there>)". */
BERTH_NORETURN BERTH_COLD void berth__misuse(const char *fault, const void *pointer);

#endif
