/*
 * What is said when a program hands back what it should not: one line, then abort.
 */
#ifndef BERTH_HEAP_MISUSE_H
#define BERTH_HEAP_MISUSE_H

#include "base/compiler.h"

/* "berth: <fault>: pointer 0x.. (<what lies there>)". */
BERTH_NORETURN BERTH_COLD void berth__misuse(const char *fault, const void *pointer);

/* The same for a pointer into no unit that is in use: foreign, or inside a huge block, or to one
 * that was freed. act: "free", or what else the program wanted of it. */
BERTH_NORETURN BERTH_COLD void berth__misuse_of_no_block(const char *act, const void *pointer);

#endif
