/*
 * Counts system calls by ptrace. A tracepoint counter of perf_event would disturb less, but needs a
 * mounted tracefs and a privilege that benchmarks should not ask for, and it does not tell madvise
 * from futex.
 */
#include "calls.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The numbers that the meter of the loads uses; see workloads/meter.c. */
enum { MARK_CALL = 0x7be5, MARK_BEGIN = 1, MARK_END = 2 };

void calls_trace_me(void) {
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
        raise(SIGSTOP);
}

static void count_one(struct calls *calls, uint64_t number) {
    switch (number) {
#ifdef SYS_brk
    case SYS_brk:
#endif
    case SYS_mremap:
    case SYS_mmap: calls->map++; break;
    case SYS_munmap: calls->unmap++; break;
#ifdef SYS_process_madvise
    case SYS_process_madvise:
#endif
    case SYS_madvise: calls->advise++; break;
    case SYS_mprotect: calls->protect++; break;
    case SYS_futex: calls->futex++; break;
    case SYS_sched_yield: calls->yield++; break;
    case SYS_getcpu: calls->getcpu++; break;
    case SYS_clock_gettime: break; /* the latency load's own */
    default: calls->other++; break;
    }
}

static void on_syscall_stop(struct calls *calls, pid_t pid) {
    struct __ptrace_syscall_info info;
    if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof info, &info) <= 0 ||
        info.op != PTRACE_SYSCALL_INFO_ENTRY)
        return;
    if (info.entry.nr == MARK_CALL)
        calls->counting = info.entry.args[0] == MARK_BEGIN;
    else if (calls->counting)
        count_one(calls, info.entry.nr);
}

/* What to hand on to the thread that stopped: its signal, or nothing if the stop was tracing's. */
static int on_stop(struct calls *calls, pid_t pid, int status) {
    int signal = WSTOPSIG(status);
    if (signal == (SIGTRAP | 0x80)) {
        on_syscall_stop(calls, pid);
        return 0;
    }
    bool event = status >> 16 != 0;
    return event || signal == SIGTRAP || signal == SIGSTOP ? 0 : signal;
}

void calls_count(pid_t child, struct calls *calls, int *status, struct rusage *usage) {
    const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                         PTRACE_O_TRACEVFORK | PTRACE_O_EXITKILL;
    bool prepared = false;
    for (;;) {
        pid_t pid = wait4(-1, status, __WALL, usage);
        if (pid < 0 && errno == EINTR)
            continue;
        if (pid < 0 || (pid == child && !WIFSTOPPED(*status)))
            break;
        if (!WIFSTOPPED(*status))
            continue;
        if (!prepared)
            prepared = ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)options) == 0;
        int signal = on_stop(calls, pid, *status);
        ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)signal);
    }
    calls->refused = !prepared;
}

void calls_print(FILE *out, const struct calls *calls) {
    if (calls->refused)
        return;
    fprintf(out, ", \"calls\": {\"map\": %lu, \"unmap\": %lu, \"advise\": %lu, \"protect\": %lu",
            calls->map, calls->unmap, calls->advise, calls->protect);
    fprintf(out, ", \"futex\": %lu, \"yield\": %lu, \"getcpu\": %lu, \"other\": %lu}", calls->futex,
            calls->yield, calls->getcpu, calls->other);
}
