#include "os/cpu.h"

#include "base/bits.h"
#include "os/fault.h"
#include "os/lock.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* glibc >= 2.35 registers a restartable-sequences area for each thread and says where it lies.
 * Weak, so that older ones and musl link too. The area's second word is the CPU number, kept by the
 * kernel; negative while unregistered. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned __rseq_size __attribute__((weak));

/* glibc's own reads what the kernel shares with every process, and mostly makes no call. */
#if defined(__GLIBC__) && (__GLIBC__ > 2 || __GLIBC_MINOR__ >= 29)
#define HAVE_GETCPU 1
#else
#define HAVE_GETCPU 0
#endif

/* Declared by hand: musl's <sched.h> has getcpu only lately. */
int sched_getcpu(void); /* NOLINT(readability-redundant-declaration) */

unsigned berth__cpu_current(void) {
    if (&__rseq_offset != NULL && &__rseq_size != NULL && __rseq_size != 0) {
        const char *area = (const char *)(uintptr_t)berth__thread_self() + __rseq_offset;
        int32_t cpu = *(const volatile int32_t *)(const void *)(area + 4);
        if (cpu >= 0) {
            return (unsigned)cpu;
        }
    }
    int cpu = sched_getcpu();
    return cpu < 0 ? 0 : (unsigned)cpu;
}

unsigned berth__cpu_current_node(void) {
    unsigned cpu = 0;
    unsigned node = 0;
    int saved_errno = errno;
#if HAVE_GETCPU
    int failed = getcpu(&cpu, &node);
#else
    long failed = syscall(SYS_getcpu, &cpu, &node, NULL);
#endif
    errno = saved_errno;
    return failed != 0 ? 0 : node;
}

unsigned berth__cpu_allowed(struct berth__cpu_set *set) {
    memset(set, 0, sizeof(*set));
    int saved_errno = errno;
    long bytes = berth__os_fails(BERTH_OS_AFFINITY)
                     ? -1
                     : syscall(SYS_sched_getaffinity, 0, sizeof(set->bits), set->bits);
    errno = saved_errno;
    size_t count = bytes < 0 ? 0 : berth__bits_count(set->bits, 0, BERTH_CPUS_MAX);
    if (count == 0) {
        set->bits[0] = 1;
        count = 1;
    }
    return (unsigned)count;
}
