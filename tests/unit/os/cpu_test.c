/* CPUs of this process. */
#include "os/cpu.h"

#include "base/bits.h"
#include "os/fault.h"
#include "unit.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>

static void the_cpu_is_the_one_that_the_thread_is_bound_to(void **state) {
    /* Caches by CPU would be those of another one: slower, and all of them at once. */
    (void)state;
    cpu_set_t before;
    assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET((unsigned)cpu, &one);
        if (CPU_ISSET((unsigned)cpu, &before) && sched_setaffinity(0, sizeof(one), &one) == 0) {
            assert_int_equal(berth__cpu_current(), cpu);
            unsigned node = 99;
            assert_int_equal(syscall(SYS_getcpu, NULL, &node, NULL), 0);
            assert_int_equal(berth__cpu_current_node(), node);
        }
    }
    assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

static void the_allowed_cpus_are_those_of_the_affinity_mask(void **state) {
    /* There would be arenas for CPUs that never run us. */
    (void)state;
    cpu_set_t mask;
    struct berth__cpu_set set;
    assert_int_equal(sched_getaffinity(0, sizeof(mask), &mask), 0);
    errno = ERANGE;
    assert_int_equal(berth__cpu_allowed(&set), CPU_COUNT(&mask));
    assert_int_equal(errno, ERANGE);
    for (unsigned cpu = 0; cpu < BERTH_CPUS_MAX; cpu++) {
        bool allowed = cpu < CPU_SETSIZE && CPU_ISSET(cpu, &mask);
        assert_int_equal(berth__bit_test(set.bits, cpu), allowed);
    }
}

static void where_the_kernel_does_not_say_there_is_one_cpu(void **state) {
    /* The engine would divide by no CPUs. */
    (void)state;
    UNIT_ONLY_IF(BERTH_FAULTS);
#if BERTH_FAULTS
    struct berth__cpu_set set;
    memset(&set, 0xff, sizeof(set));
    berth__os_fail_after(BERTH_OS_AFFINITY, 0, 1);
    errno = ERANGE;
    assert_int_equal(berth__cpu_allowed(&set), 1);
    assert_int_equal(errno, ERANGE);
    assert_int_equal(berth__bits_count(set.bits, 0, BERTH_CPUS_MAX), 1);
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cpu_is_the_one_that_the_thread_is_bound_to),
        cmocka_unit_test(the_allowed_cpus_are_those_of_the_affinity_mask),
        cmocka_unit_test(where_the_kernel_does_not_say_there_is_one_cpu),
    };
    return UNIT_RUN(tests);
}
