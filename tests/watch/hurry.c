/*
 * Preloaded into a test, it lets time run faster for it, as if the machine were slower: what only
 * holds if no more than some milliseconds have passed fails then. Sleeps and waits take as long as
 * ever, so what measures those fails, too.
 *
 *   HURRY=50 LD_PRELOAD=build/release/tests/watch/libhurry.so build/release/tests/unit/unit_cli_map
 */
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

static _Atomic int64_t start_ns;

static int64_t times(void) {
    const char *text = getenv("HURRY");
    return text == NULL ? 1 : strtoll(text, NULL, 10);
}

/* In the place of libc's. */
int clock_gettime(clockid_t clock, struct timespec *now) {
    int error = (int)syscall(SYS_clock_gettime, clock, now);
    if (error == 0 && (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE)) {
        int64_t now_ns = now->tv_sec * NS_PER_S + now->tv_nsec;
        int64_t nobody = 0;
        (void)atomic_compare_exchange_strong(&start_ns, &nobody, now_ns);
        now_ns = start_ns + (now_ns - start_ns) * times();
        now->tv_sec = now_ns / NS_PER_S;
        now->tv_nsec = now_ns % NS_PER_S;
    }
    return error;
}
