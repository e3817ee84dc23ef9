/*
 * Atomics with the memory order in the name, and the counters of the metrics.
 *
 * Each acquire or release that orders other memory is labelled where it is used (A1 pairs with R1);
 * the labels are explained in the block above the structure concerned.
 */
#ifndef BERTH_BASE_ATOMICS_H
#define BERTH_BASE_ATOMICS_H

#include "base/compiler.h"

#include <stdatomic.h>

#define berth__load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
#define berth__load_acquire(p) atomic_load_explicit((p), memory_order_acquire)
#define berth__store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
#define berth__store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)
#define berth__load_seq_cst(p) atomic_load_explicit((p), memory_order_seq_cst)
#define berth__store_seq_cst(p, v) atomic_store_explicit((p), (v), memory_order_seq_cst)
#define berth__add_relaxed(p, v) atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
#define berth__add_acq_rel(p, v) atomic_fetch_add_explicit((p), (v), memory_order_acq_rel)
#define berth__sub_acq_rel(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_acq_rel)
#define berth__sub_relaxed(p, v) atomic_fetch_sub_explicit((p), (v), memory_order_relaxed)
#define berth__exchange_acquire(p, v) atomic_exchange_explicit((p), (v), memory_order_acquire)
#define berth__exchange_relaxed(p, v) atomic_exchange_explicit((p), (v), memory_order_relaxed)
#define berth__cas_acquire(p, expected, v)                                                         \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_acquire,            \
                                            memory_order_relaxed)
#define berth__cas_weak_release(p, expected, v)                                                    \
    atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_release,              \
                                          memory_order_relaxed)
#define berth__cas_weak_relaxed(p, expected, v)                                                    \
    atomic_compare_exchange_weak_explicit((p), (expected), (v), memory_order_relaxed,              \
                                          memory_order_relaxed)
#define berth__cas_acq_rel(p, expected, v)                                                         \
    atomic_compare_exchange_strong_explicit((p), (expected), (v), memory_order_acq_rel,            \
                                            memory_order_acquire)

/* A count that one thread at a time writes (its owner, or who holds the lock above it) and any
 * thread reads. Reading gives some value that it had; adding is a plain load, add and store. */
typedef _Atomic uint64_t berth__count;

BERTH_INLINE void berth__count_add(berth__count *count, uint64_t amount) {
    berth__store_relaxed(count, berth__load_relaxed(count) + amount);
}

BERTH_INLINE void berth__count_sub(berth__count *count, uint64_t amount) {
    berth__store_relaxed(count, berth__load_relaxed(count) - amount);
}

BERTH_INLINE void berth__pause(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

#endif
