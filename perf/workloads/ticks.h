/*
 * A clock for single calls: the processor's constant-rate counter where there is one, else the
 * monotonic clock. ticks_begin and ticks_end keep the measured call between them, in program order.
 *
 * Not a clock to compare across threads.
 */
#ifndef BERTH_PERF_TICKS_H
#define BERTH_PERF_TICKS_H

#include <stdint.h>

#if defined(__x86_64__)
#include <x86intrin.h>

/* The fence before keeps earlier work out of the interval, the one after keeps the call in it. */
static inline uint64_t ticks_begin(void) {
    _mm_lfence();
    uint64_t ticks = __rdtsc();
    _mm_lfence();
    return ticks;
}

/* rdtscp waits for the call to finish; the fence keeps later work out. */
static inline uint64_t ticks_end(void) {
    unsigned processor;
    uint64_t ticks = __rdtscp(&processor);
    _mm_lfence();
    return ticks;
}

#elif defined(__aarch64__)

static inline uint64_t ticks_begin(void) {
    uint64_t ticks;
    __asm__ volatile("isb; mrs %0, cntvct_el0; isb" : "=r"(ticks)::"memory");
    return ticks;
}

static inline uint64_t ticks_end(void) {
    return ticks_begin();
}

#else
#include <time.h>

static inline uint64_t ticks_begin(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t ticks_end(void) {
    return ticks_begin();
}

#endif

#endif
