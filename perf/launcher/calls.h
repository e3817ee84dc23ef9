/*
 * Counting system calls of a traced command, between the marks that the loads' meter makes. Used by
 * the launcher only. Each call stops the command twice, so a traced run's times mean nothing.
 */
#ifndef BERTH_PERF_CALLS_H
#define BERTH_PERF_CALLS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/types.h>

struct calls {
    bool counting;
    bool refused; /* the kernel does not let us trace */
    uint64_t map;
    uint64_t unmap;
    uint64_t advise;
    uint64_t protect;
    uint64_t futex;
    uint64_t yield;
    uint64_t getcpu;
    uint64_t other;
};

/* In the child, before exec: asks to be traced and stops until the tracer is there. */
void calls_trace_me(void);

/* Runs the stopped child to its end and counts. */
void calls_count(pid_t child, struct calls *calls, int *status, struct rusage *usage);

/* Appends the counts as members of a JSON object. */
void calls_print(FILE *out, const struct calls *calls);

#endif
