/*
 * What is said when a program hands back what it should not: one line, then abort.
 */
#ifndef BERTH_HEAP_MISUSE_H
#define BERTH_HEAP_MISUSE_H

#include "base/compiler.h"
#include "chunk/handed.h"

/* "berth: <fault>: pointer 0x.. (<what lies there>)". */
BERTH_NORETURN BERTH_COLD void berth__misuse(const char *fault, const void *pointer);

/* The same for a pointer into no unit that is in use: foreign, or inside a huge block, or to one
 * that was freed. act: "free", or what else the program wanted of it. */
BERTH_NORETURN BERTH_COLD void berth__misuse_of_no_block(const char *act, const void *pointer);

/* For a small block that is freed: in hardened builds it must be in the program's hands. */
BERTH_INLINE void berth__misuse_if_free(const void *block) {
    if (BERTH_UNLIKELY(!berth__handed_in(block))) {
        berth__misuse("double free", block);
    }
}

#endif
