/*
 * Which CPUs share an arena: from hwloc's descriptions of other machines, from the descriptor that
 * `berth run` hands on, and from the affinity mask alone.
 */
#include "os/topology.h"

#include "base/bits.h"
#include "os/file.h"
#include "unit.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#if BERTH_HWLOC
#include <hwloc.h>
#endif

/* ---- a machine of our choice (the linker puts these in the place of os/cpu.c's) ---- */

static struct {
    unsigned first_cpu, cpus; /* the affinity mask: every second one from the first on; 0: real */
    unsigned cpu, node;       /* what runs us */
    const char *nodes;        /* those online, as a list; NULL: nothing says so */
} machine_here;

unsigned __real_berth__cpu_allowed(struct berth__cpu_set *set);
unsigned __wrap_berth__cpu_allowed(struct berth__cpu_set *set);
unsigned __wrap_berth__cpu_current(void);
unsigned __wrap_berth__cpu_current_node(void);
ssize_t __wrap_berth__file_read(const char *path, char *buffer, size_t capacity);

unsigned __wrap_berth__cpu_allowed(struct berth__cpu_set *set) {
    if (machine_here.cpus == 0) {
        return __real_berth__cpu_allowed(set);
    }
    memset(set, 0, sizeof(*set));
    for (unsigned i = 0; i < machine_here.cpus; i++) {
        berth__bit_set(set->bits, machine_here.first_cpu + 2 * i);
    }
    return machine_here.cpus;
}

unsigned __wrap_berth__cpu_current(void) {
    return machine_here.cpu;
}

unsigned __wrap_berth__cpu_current_node(void) {
    return machine_here.node;
}

ssize_t __wrap_berth__file_read(const char *path, char *buffer, size_t capacity) {
    (void)path; /* no other is read here */
    if (machine_here.nodes == NULL) {
        return -ENOENT;
    }
    snprintf(buffer, capacity, "%s\n", machine_here.nodes);
    return (ssize_t)strlen(buffer);
}

/* ---- hwloc ---- */

#if BERTH_HWLOC
static struct berth__topology topology;

/* What the description says of the whole machine, and that it is taken. */
static void expect(unsigned domains, unsigned nodes) {
    assert_int_equal(topology.magic, BERTH_TOPOLOGY_MAGIC);
    assert_int_equal(topology.version, 1);
    assert_int_equal(topology.domains, domains);
    assert_int_equal(topology.nodes, nodes);
    assert_true(berth__topology_set(&topology));
}

static void two_nodes_with_four_caches_each_are_eight_domains(void **state) {
    /* Threads of one cache would fight over the arena of another. */
    (void)state;
    assert_true(berth__topology_from_hwloc(&topology, "node:2 l3:4 core:8 pu:1"));
    expect(8, 2);
    for (unsigned cpu = 0; cpu < 64; cpu++) {
        assert_int_equal(topology.domain_of_cpu[cpu], cpu / 8);
        assert_int_equal(topology.node_of_domain[cpu / 8], cpu / 32);
    }
}

static void a_machine_without_numa_has_a_domain_for_each_cache(void **state) {
    /* A desktop with two core complexes would be one domain, or several nodes. */
    (void)state;
    assert_true(berth__topology_from_hwloc(&topology, "pack:1 l3:2 l2:4 core:1 pu:2"));
    expect(2, 1);
    for (unsigned cpu = 0; cpu < 16; cpu++) {
        assert_int_equal(topology.domain_of_cpu[cpu], cpu / 8);
    }
}

static void one_core_is_one_domain(void **state) {
    /* The smallest machine would have no arena. */
    (void)state;
    assert_true(berth__topology_from_hwloc(&topology, "core:1 pu:1"));
    expect(1, 1);
    assert_int_equal(topology.domain_of_cpu[0], 0);
}

static void a_cache_of_many_cpus_is_split(void **state) {
    /* 64 threads would share the locks of one arena. */
    (void)state;
    assert_true(berth__topology_from_hwloc(&topology, "pack:1 l3:1 core:40 pu:1"));
    expect(3, 1);
    unsigned cpus[3] = {0};
    for (unsigned cpu = 0; cpu < 40; cpu++) {
        cpus[topology.domain_of_cpu[cpu]]++;
    }
    assert_int_equal(cpus[0], BERTH_DOMAIN_CPUS);
    assert_int_equal(cpus[1], BERTH_DOMAIN_CPUS);
    assert_int_equal(cpus[2], 40 - 2 * BERTH_DOMAIN_CPUS);
}

static void without_a_third_level_a_shared_second_one_counts(void **state) {
    /* Clusters of cores would be ignored, and private caches taken for domains. */
    (void)state;
    assert_true(berth__topology_from_hwloc(&topology, "pack:1 l2:3 core:4 pu:1"));
    expect(3, 1);
    assert_true(berth__topology_from_hwloc(&topology, "pack:2 l2:4 core:1 pu:1"));
    expect(2, 1); /* by package: the caches are private */
}

static void more_caches_than_domains_share_the_last(void **state) {
    /* The largest machines would write behind the table. */
    (void)state;
    assert_true(berth__topology_from_hwloc(&topology, "node:4 l3:32 core:2 pu:1"));
    expect(BERTH_DOMAINS_MAX, 4);
    assert_int_equal(topology.domain_of_cpu[0], 0);
    assert_int_equal(topology.domain_of_cpu[2 * BERTH_DOMAINS_MAX + 1], BERTH_DOMAINS_MAX - 1);
}

static void a_description_that_hwloc_does_not_take_is_refused(void **state) {
    /* A failure of hwloc's would be taken for a machine. */
    (void)state;
    assert_false(berth__topology_from_hwloc(&topology, "nonsense:x"));
}

/* Writes a synthetic machine, less the CPUs from `from` to `to`, for hwloc to read as this one. */
static void pretend(const char *synthetic, unsigned from, unsigned to, char *path) {
    hwloc_topology_t machine;
    hwloc_bitmap_t left = hwloc_bitmap_alloc();
    assert_int_equal(hwloc_topology_init(&machine), 0);
    assert_int_equal(hwloc_topology_set_synthetic(machine, synthetic), 0);
    assert_int_equal(hwloc_topology_load(machine), 0);
    hwloc_bitmap_copy(left, hwloc_topology_get_topology_cpuset(machine));
    hwloc_bitmap_clr_range(left, from, (int)to - 1);
    assert_int_equal(hwloc_topology_restrict(machine, left, HWLOC_RESTRICT_FLAG_REMOVE_CPULESS), 0);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(hwloc_topology_export_xml(machine, path, 0), 0);
    hwloc_bitmap_free(left);
    hwloc_topology_destroy(machine);
    setenv("HWLOC_XMLFILE", path, 1);
}

static void forget(const char *path) {
    unsetenv("HWLOC_XMLFILE");
    unlink(path);
}

static void cpus_that_are_offline_leave_gaps_and_no_domain(void **state) {
    /* An arena would be made for CPUs that never run. */
    (void)state;
    char path[] = "/tmp/berth-unit-topology-XXXXXX";
    pretend("node:2 l3:2 core:4 pu:1", 2, 9, path); /* the second cache, and parts of two others */
    bool found = berth__topology_from_hwloc(&topology, NULL);
    forget(path);
    assert_true(found);
    expect(3, 2);
    assert_int_equal(topology.domain_of_cpu[0], 0);
    assert_int_equal(topology.domain_of_cpu[1], 0);
    assert_int_equal(topology.domain_of_cpu[9], 1);
    assert_int_equal(topology.domain_of_cpu[12], 2);
    assert_int_equal(topology.node_of_domain[0], 0);
    assert_int_equal(topology.node_of_domain[1], 1);
}

static void three_uneven_nodes_keep_their_numbers(void **state) {
    /* Chunks would be bound to another node. */
    (void)state;
    char path[] = "/tmp/berth-unit-topology-XXXXXX";
    pretend("node:3 l3:1 core:20 pu:1", 24, 36, path); /* of the second node, 8 of 20 are left */
    bool found = berth__topology_from_hwloc(&topology, NULL);
    forget(path);
    assert_true(found);
    expect(5, 3);
    assert_int_equal(topology.domain_of_cpu[0], 0);
    assert_int_equal(topology.domain_of_cpu[19], 1);
    assert_int_equal(topology.domain_of_cpu[20], 2);
    assert_int_equal(topology.domain_of_cpu[39], 2);
    assert_int_equal(topology.domain_of_cpu[40], 3);
    static const unsigned nodes[] = {0, 0, 1, 2, 2};
    for (unsigned d = 0; d < 5; d++) {
        assert_int_equal(topology.node_of_domain[d], nodes[d]);
    }
    static const unsigned cpus[] = {0, 19, 20, 40, 59};
    for (unsigned d = 0; d < 5; d++) {
        machine_here.cpu = cpus[d];
        assert_int_equal(berth__topology_here().domain, d);
        assert_int_equal(berth__topology_here().node, nodes[d]);
    }
    machine_here.cpu = 0;
}

static void this_machine_has_a_domain_for_each_of_its_cpus(void **state) {
    /* The real thing would differ from the synthetic ones. */
    (void)state;
    assert_true(berth__topology_from_hwloc(&topology, NULL));
    assert_true(berth__topology_set(&topology));
    assert_ptr_not_equal(berth__topology_now(), &topology);
    assert_memory_equal(berth__topology_now(), &topology, sizeof(topology));
    assert_true(berth__topology_here().domain < topology.domains);
}
#else
static void without_hwloc_there_is_no_answer(void **state) {
    /* The door would take an empty description for one. */
    (void)state;
    struct berth__topology topology;
    assert_false(berth__topology_from_hwloc(&topology, NULL));
}
#endif

/* ---- descriptions handed on ---- */

static struct berth__topology two_domains(void) {
    struct berth__topology two = {
        .magic = BERTH_TOPOLOGY_MAGIC, .version = 1, .domains = 2, .nodes = 2};
    for (unsigned cpu = 0; cpu < BERTH_CPUS_MAX; cpu++) {
        two.domain_of_cpu[cpu] = 1;
    }
    two.node_of_domain[1] = 1;
    return two;
}

static void a_description_that_is_none_is_refused(void **state) {
    /* An arena behind the table would be used. */
    (void)state;
    const struct berth__topology good = two_domains();
    const struct berth__topology *before = berth__topology_now();
    struct berth__topology bad = good;
    bad.magic++;
    assert_false(berth__topology_set(&bad));
    bad = good;
    bad.version = 2;
    assert_false(berth__topology_set(&bad));
    bad = good;
    bad.domains = 0;
    assert_false(berth__topology_set(&bad));
    bad = good;
    bad.domains = BERTH_DOMAINS_MAX + 1;
    assert_false(berth__topology_set(&bad));
    bad = good;
    bad.domain_of_cpu[BERTH_CPUS_MAX - 1] = 2;
    assert_false(berth__topology_set(&bad));
    assert_ptr_equal(berth__topology_now(), before);
}

/* A descriptor as `berth run` leaves it, with this content. */
static int described_fd(const void *content, size_t bytes) {
    int fd = memfd_create("topology", MFD_ALLOW_SEALING);
    UNIT_CHECK(fd >= 0 && write(fd, content, bytes) == (ssize_t)bytes);
    char number[16];
    snprintf(number, sizeof(number), "%d", fd);
    setenv("BERTH_TOPOLOGY_FD", number, 1);
    return fd;
}

static void take_from_descriptor(void *unused) {
    (void)unused;
    struct berth__topology two = two_domains();
    int fd = described_fd(&two, sizeof(two));
    errno = ERANGE;
    berth__topology_init();
    UNIT_CHECK(errno == ERANGE);
    UNIT_CHECK(berth__topology_now()->domains == 2);
    UNIT_CHECK(berth__topology_here().domain == 1);
    UNIT_CHECK(berth__topology_here().node == 1);
    UNIT_CHECK(close(fd) == 0); /* it was left open, for programs that we start */
    berth__topology_refine();   /* what was handed on is not asked for again */
    UNIT_CHECK(berth__topology_now()->domains == 2);
}

static void a_descriptor_handed_on_is_taken(void **state) {
    /* Under `berth run`, the door would know nothing of caches. */
    (void)state;
    assert_int_equal(unit_in_child(take_from_descriptor, NULL), 0);
}

static void refuse_descriptors(void *unused) {
    (void)unused;
    struct berth__topology two = two_domains();
    two.domains = 0;
    (void)described_fd(&two, sizeof(two));
    berth__topology_init();
    UNIT_CHECK(berth__topology_now()->magic == 0);
    (void)described_fd(&two, 100);
    berth__topology_init();
    UNIT_CHECK(berth__topology_now()->magic == 0);
    static const char *const texts[] = {"", "x", "7x", "-1", "99999999999", "4000", "0x3"};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(texts); i++) {
        setenv("BERTH_TOPOLOGY_FD", texts[i], 1);
        berth__topology_init();
        UNIT_CHECK(berth__topology_now()->magic == 0);
    }
}

static void a_descriptor_of_something_else_is_refused(void **state) {
    /* A variable left over from elsewhere would decide where memory lies. */
    (void)state;
    assert_int_equal(unit_in_child(refuse_descriptors, NULL), 0);
}

/* ---- the affinity mask ---- */

static void start_coarse(void *unused) {
    (void)unused;
    unsetenv("BERTH_TOPOLOGY_FD");
    cpu_set_t mask;
    UNIT_CHECK(sched_getaffinity(0, sizeof(mask), &mask) == 0);
    berth__topology_init();
    const struct berth__topology *topology_now = berth__topology_now();
    unsigned cpus = (unsigned)CPU_COUNT(&mask);
    unsigned groups = (cpus + BERTH_DOMAIN_CPUS - 1) / BERTH_DOMAIN_CPUS;
    UNIT_CHECK(berth__cpus_allowed == cpus);
    UNIT_CHECK(topology_now->domains == (groups < BERTH_DOMAINS_MAX ? groups : BERTH_DOMAINS_MAX));
    UNIT_CHECK(berth__topology_here().domain < BERTH_DOMAINS_MAX);
    UNIT_CHECK(berth__topology_here().node == BERTH_NODE_ANY);
    for (unsigned cpu = 1; cpu < BERTH_CPUS_MAX; cpu++) {
        UNIT_CHECK(topology_now->domain_of_cpu[cpu] >= topology_now->domain_of_cpu[cpu - 1]);
    }
}

static void the_mask_alone_gives_groups_of_cpus(void **state) {
    /* Without hwloc and `berth run` there would be no arenas, or too many. */
    (void)state;
    assert_int_equal(unit_in_child(start_coarse, NULL), 0);
}

static void start_on_hundred_cpus(void *unused) {
    (void)unused;
    machine_here.first_cpu = 10;
    machine_here.cpus = 100;
    berth__topology_init();
    const struct berth__topology *found = berth__topology_now();
    UNIT_CHECK(found->domains == 7);
    for (unsigned i = 0; i < 100; i++) {
        UNIT_CHECK(found->domain_of_cpu[10 + 2 * i] == i / BERTH_DOMAIN_CPUS);
    }
    machine_here.cpu = 10 + 2 * 99;
    UNIT_CHECK(berth__topology_here().domain == 6);
    machine_here.node = 3;
    UNIT_CHECK(berth__topology_here().domain == 6 + 8 * 3);
    UNIT_CHECK(berth__topology_here().node == 3);
    machine_here.node = 1000;
    UNIT_CHECK(berth__topology_here().domain < BERTH_DOMAINS_MAX);
    machine_here.cpu = UINT32_MAX;
    UNIT_CHECK(berth__topology_here().domain < BERTH_DOMAINS_MAX);
}

static void start_on_two_thousand_cpus(void *unused) {
    (void)unused;
    machine_here.cpus = 2000;
    berth__topology_init();
    UNIT_CHECK(berth__topology_now()->domains == BERTH_DOMAINS_MAX);
    machine_here.cpu = 2 * 1999;
    UNIT_CHECK(berth__topology_here().domain == BERTH_DOMAINS_MAX - 1);
}

/* Where the mask and getcpu are all that is known. */
static void check_place(unsigned node, unsigned domain, unsigned its_node) {
    machine_here.node = node;
    UNIT_CHECK(berth__topology_here().domain == domain);
    UNIT_CHECK(berth__topology_here().node == its_node);
}

static void start_on_nodes(void *cpus) {
    machine_here.cpus = *(const unsigned *)cpus;
    machine_here.nodes = "0-1,3";
    berth__topology_init();
    UNIT_CHECK(berth__topology_domain_count() == 4 * berth__topology_now()->domains);
    check_place(0, 0, 0); /* the first is one like the others */
    check_place(1, 8, 1);
    check_place(3, 24, 3);
    machine_here.cpu = 2 * (machine_here.cpus - 1);
    unsigned last = berth__topology_now()->domains - 1;
    check_place(0, last % 8, 0);
    check_place(1, 8 + last % 8, 1);
}

static void start_on_one_node(void *unused) {
    (void)unused;
    machine_here.cpus = 8;
    machine_here.nodes = "0";
    berth__topology_init();
    UNIT_CHECK(berth__topology_domain_count() == 1);
    check_place(0, 0, BERTH_NODE_ANY);
}

static void nodes_are_told_apart_without_hwloc(void **state) {
    /* Chunks of the first node would be bound nowhere; on a machine with few CPUs, no thread would
     * follow when it is moved to another node. */
    (void)state;
    unsigned cpus[] = {2, 4, 32, 400};
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(cpus); i++) {
        assert_int_equal(unit_in_child(start_on_nodes, &cpus[i]), 0);
    }
    assert_int_equal(unit_in_child(start_on_one_node, NULL), 0);
}

static void many_cpus_of_a_mask_are_grouped_in_order(void **state) {
    /* All threads of a large machine would share one arena, or use arenas behind the table. */
    (void)state;
    assert_int_equal(unit_in_child(start_on_hundred_cpus, NULL), 0);
    assert_int_equal(unit_in_child(start_on_two_thousand_cpus, NULL), 0);
}

#if BERTH_HWLOC
static void refine_as(void *path) {
    berth__topology_init();
    berth__cpus_allowed = 64; /* else it is not worth asking */
    setenv("HWLOC_XMLFILE", path, 1);
    berth__topology_refine();
    UNIT_CHECK(berth__topology_now()->domains == 8);
    unsetenv("HWLOC_XMLFILE");
    berth__topology_refine(); /* once only */
    UNIT_CHECK(berth__topology_now()->domains == 8);
}

static void refine_in_small(void *path) {
    berth__topology_init();
    berth__cpus_allowed = 4;
    setenv("HWLOC_XMLFILE", path, 1);
    berth__topology_refine();
    UNIT_CHECK(berth__topology_now()->domains == 1);
}

static void a_second_thread_asks_hwloc_on_large_machines_only(void **state) {
    /* Programs on small machines would pay milliseconds for an answer that changes nothing. */
    (void)state;
    char path[] = "/tmp/berth-unit-topology-XXXXXX";
    pretend("node:2 l3:4 core:8 pu:1", 64, 65, path);
    int large = unit_in_child(refine_as, path);
    int small = unit_in_child(refine_in_small, path);
    forget(path);
    assert_int_equal(large, 0);
    assert_int_equal(small, 0);
}
#endif

int main(void) {
    /* The first ones find the state of a process that has just started. */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_mask_alone_gives_groups_of_cpus),
        cmocka_unit_test(many_cpus_of_a_mask_are_grouped_in_order),
        cmocka_unit_test(nodes_are_told_apart_without_hwloc),
        cmocka_unit_test(a_descriptor_handed_on_is_taken),
        cmocka_unit_test(a_descriptor_of_something_else_is_refused),
#if BERTH_HWLOC
        cmocka_unit_test(a_second_thread_asks_hwloc_on_large_machines_only),
        cmocka_unit_test(two_nodes_with_four_caches_each_are_eight_domains),
        cmocka_unit_test(a_machine_without_numa_has_a_domain_for_each_cache),
        cmocka_unit_test(one_core_is_one_domain),
        cmocka_unit_test(a_cache_of_many_cpus_is_split),
        cmocka_unit_test(without_a_third_level_a_shared_second_one_counts),
        cmocka_unit_test(more_caches_than_domains_share_the_last),
        cmocka_unit_test(a_description_that_hwloc_does_not_take_is_refused),
        cmocka_unit_test(cpus_that_are_offline_leave_gaps_and_no_domain),
        cmocka_unit_test(three_uneven_nodes_keep_their_numbers),
        cmocka_unit_test(this_machine_has_a_domain_for_each_of_its_cpus),
#else
        cmocka_unit_test(without_hwloc_there_is_no_answer),
#endif
        cmocka_unit_test(a_description_that_is_none_is_refused),
    };
    return UNIT_RUN(tests);
}
