/*
 * If this fails, a program that restricts its own system calls to what glibc's malloc uses is
 * killed by the kernel when the door uses another.
 *
 * The filter kills the process. So that a failure names the calls, it is then tried again with a
 * filter that raises SIGSYS. (glibc's own malloc passes most of the time, but not always: it reads
 * /proc/sys/vm/overcommit_memory when it first shrinks a heap.)
 */
#include "edge.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>

#ifndef SYS_rseq
#define SYS_rseq 334
#endif

/* ---- the filter ---- */

/* What glibc's malloc uses once it runs, and what the C library needs around it: to write, to wait
 * for and to end threads, to return from handlers, to end the process. */
static const unsigned allowed[] = {
    SYS_mmap,         SYS_munmap,         SYS_mprotect,        SYS_mremap,      SYS_madvise,
    SYS_brk,          SYS_futex,          SYS_write,           SYS_exit,        SYS_exit_group,
    SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_restart_syscall, SYS_sched_yield,
};

#if defined(__x86_64__)
#define THIS_ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define THIS_ARCHITECTURE AUDIT_ARCH_AARCH64
#else
#define THIS_ARCHITECTURE 0
#endif

static void install_filter(unsigned otherwise) {
    enum { HEAD = 4 };
    struct sock_filter code[HEAD + 2 * COUNT_OF(allowed) + 1];
    const struct sock_filter head[HEAD] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, THIS_ARCHITECTURE, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    size_t length = HEAD;
    memcpy(code, head, sizeof(head));
    for (size_t i = 0; i < COUNT_OF(allowed); i++) {
        code[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
        code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    code[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise);
    struct sock_fprog program = {.len = (unsigned short)length, .filter = code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
}

/* Collects the calls; each of them fails with ENOSYS, and the program goes on to the next one. */
static volatile int named[16];

static void name_call(int signal_number, siginfo_t *info, void *context) {
    (void)signal_number;
    for (size_t i = 0; i < COUNT_OF(named) && named[i] != info->si_syscall; i++) {
        int nobody = 0;
        if (__atomic_compare_exchange_n((int *)&named[i], &nobody, info->si_syscall, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            break;
        }
    }
    ucontext_t *interrupted = context;
#if defined(__x86_64__)
    interrupted->uc_mcontext.gregs[REG_RAX] = -ENOSYS;
#elif defined(__aarch64__)
    interrupted->uc_mcontext.regs[0] = (unsigned long long)-ENOSYS;
#endif
}

/* ---- what is done under it ---- */

enum { THREADS = 4, BLOCKS = 500, ROUNDS = 400 };
static pthread_barrier_t gate;

static void work(uint64_t seed) {
    static _Thread_local char *blocks[BLOCKS];
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < BLOCKS; i++) {
            uint64_t random = edge_random(&seed);
            if (blocks[i] != NULL && random % 3 == 0) {
                blocks[i] = realloc(blocks[i], (size_t)(random >> 32) % 50000 + 1);
                CHECK(blocks[i] != NULL);
            } else if (blocks[i] != NULL) {
                free(blocks[i]);
                blocks[i] = NULL;
            } else {
                size_t size = edge_random_size(&seed);
                blocks[i] = random % 5 == 0 ? calloc(1, size + 1) : malloc(size + 1);
                CHECK(blocks[i] != NULL);
                memset(blocks[i], 1, size < 65536 ? size : 65536);
            }
        }
        if (round % 100 == 99) {
            (void)malloc_trim(0);
        }
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
}

static void work_with_huge_blocks(void) {
    for (size_t size = 5u << 20; size < 200u << 20; size *= 2) {
        char *block = malloc(size);
        CHECK(block != NULL);
        memset(block, 1, size);
        block = realloc(block, size * 2);
        CHECK(block != NULL);
        block = realloc(block, size / 2);
        CHECK(block != NULL);
        free(block);
    }
    char *cleared = calloc(1, 64u << 20);
    CHECK(cleared != NULL && edge_is_zero(cleared, 64u << 20));
    free(cleared);
}

/* Frees more than is kept, so that pages go back while others allocate. */
static void free_much(void) {
    enum { MANY = 200000 };
    static char *many[MANY];
    for (size_t i = 0; i < MANY; i++) {
        many[i] = malloc(300);
        CHECK(many[i] != NULL);
        many[i][0] = 1;
    }
    for (size_t i = 0; i < MANY; i++) {
        free(many[i]);
    }
}

static void *work_in_thread(void *number) {
    uint64_t seed = (uint64_t)(uintptr_t)number * 7919;
    free(malloc(10));
    pthread_barrier_wait(&gate); /* all are there */
    pthread_barrier_wait(&gate); /* the filter holds */
    work(seed);
    return NULL;
}

/* Whose first block is asked for under the filter. */
static void *work_in_fresh_thread(void *number) {
    pthread_barrier_wait(&gate);
    pthread_barrier_wait(&gate);
    work((uint64_t)(uintptr_t)number * 104729);
    return NULL;
}

/* In `fresh` threads, the door is not called before the filter holds. */
static void work_under(unsigned otherwise, bool fresh) {
    pthread_t threads[THREADS];
    CHECK(pthread_barrier_init(&gate, NULL, THREADS + 1) == 0);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, fresh ? work_in_fresh_thread : work_in_thread,
                             (void *)(uintptr_t)(i + 1)) == 0);
    }
    pthread_barrier_wait(&gate);
    install_filter(otherwise);
    pthread_barrier_wait(&gate);
    work(12345);
    work_with_huge_blocks();
    free_much();
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    free_much();
    (void)malloc_trim(0);
}

static void raise_signals(bool fresh) {
    struct sigaction action = {.sa_sigaction = name_call, .sa_flags = SA_SIGINFO};
    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
    work_under(SECCOMP_RET_TRAP, fresh);
    char text[256] = "";
    for (size_t i = 0; i < COUNT_OF(named) && named[i] != 0; i++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), " %d", named[i]);
    }
    FAIL("forbidden system calls:%s", text);
}

static void try_filter(const char *kill_case, const char *signal_case) {
    struct edge_outcome outcome;
    if (THIS_ARCHITECTURE == 0) {
        edge_skip("this architecture's filters are not known here");
    }
    edge_run_self(kill_case, &outcome);
    if (edge_died_of(&outcome, SIGSYS)) {
        edge_run_self(signal_case, &outcome);
        FAIL("killed: %s", outcome.text);
    }
    if (!edge_passed(&outcome)) {
        FAIL("status %#x: %s", (unsigned)outcome.status, outcome.text);
    }
}

static void kill_for_old_threads(void) {
    work_under(SECCOMP_RET_KILL_PROCESS, false);
    _exit(EDGE_PASS);
}
static void signal_for_old_threads(void) {
    raise_signals(false);
}
static void threads_use_the_system_calls_of_glibc(void) {
    try_filter("kill_for_old_threads", "signal_for_old_threads");
}

static void kill_for_fresh_threads(void) {
    work_under(SECCOMP_RET_KILL_PROCESS, true);
    _exit(EDGE_PASS);
}
static void signal_for_fresh_threads(void) {
    raise_signals(true);
}
static void so_do_threads_that_begin_to_allocate(void) {
    try_filter("kill_for_fresh_threads", "signal_for_fresh_threads");
}

static const struct edge_case cases[] = {
    EDGE_CASE(threads_use_the_system_calls_of_glibc),
    EDGE_CASE(so_do_threads_that_begin_to_allocate),
};
static const struct edge_case hidden[] = {
    EDGE_CASE(kill_for_old_threads),
    EDGE_CASE(signal_for_old_threads),
    EDGE_CASE(kill_for_fresh_threads),
    EDGE_CASE(signal_for_fresh_threads),
};

int main(int argc, char **argv) {
    return edge_main_hiding(argc, argv, cases, COUNT_OF(cases), hidden, COUNT_OF(hidden));
}
