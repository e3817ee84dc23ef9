/* Limits of cgroups, read from a directory that stands for "/". */
#include "os/cgroup.h"

#include "unit.h"

#include <ftw.h>
#include <string.h>
#include <sys/stat.h>

static char root[64];

/* Writes <root>/<path>, with the folders that it needs. */
static void put(const char *path, const char *content) {
    char full[512];
    snprintf(full, sizeof(full), "%s/%s", root, path);
    for (char *slash = strchr(full + strlen(root) + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(content, file);
    fclose(file);
}

static int fresh_root(void **state) {
    (void)state;
    strcpy(root, "/tmp/berth-unit-cgroup-XXXXXX");
    if (mkdtemp(root) == NULL) {
        return -1;
    }
    berth__cgroup_set_root(root);
    return 0;
}

static int remove_one(const char *path, const struct stat *stat, int type, struct FTW *ftw) {
    (void)stat, (void)type, (void)ftw;
    return remove(path);
}

static int remove_root(void **state) {
    (void)state;
    berth__cgroup_set_root(NULL);
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

#define V2 "sys/fs/cgroup"
#define V1_MEMORY "sys/fs/cgroup/memory"
#define V1_CPU "sys/fs/cgroup/cpu"

static void without_cgroup_files_there_is_no_limit(void **state) {
    /* A system without cgroups would get a limit of nothing. */
    (void)state;
    assert_int_equal(berth__cgroup_memory_limit(), BERTH_CGROUP_UNLIMITED);
    assert_int_equal(berth__cgroup_cpus(), 0);
    put("proc/self/cgroup", "0::/a/b\n");
    assert_int_equal(berth__cgroup_memory_limit(), BERTH_CGROUP_UNLIMITED);
    assert_int_equal(berth__cgroup_cpus(), 0);
    put("proc/self/cgroup", "");
    put(V2 "/memory.max", "1000\n");
    assert_int_equal(berth__cgroup_memory_limit(), BERTH_CGROUP_UNLIMITED);
}

static void the_limit_of_version_2_is_the_groups_own(void **state) {
    /* limit:auto would not see the container's limit. */
    (void)state;
    put("proc/self/cgroup", "0::/a/b\n");
    put(V2 "/a/b/memory.max", "104857600\n");
    put(V2 "/a/b/cpu.max", "250000 100000\n");
    put(V2 "/a/memory.max", "max\n");
    put(V2 "/a/cpu.max", "max 100000\n");
    assert_int_equal(berth__cgroup_memory_limit(), 104857600);
    assert_int_equal(berth__cgroup_cpus(), 3); /* two and a half */
}

static void the_tightest_ancestor_counts(void **state) {
    /* The kernel would kill us at a limit that stands further up. */
    (void)state;
    put("proc/self/cgroup", "0::/a/b/c\n");
    put(V2 "/a/b/c/memory.max", "5000000\n");
    put(V2 "/a/b/memory.max", "3000000\n");
    put(V2 "/a/memory.max", "4000000\n");
    put(V2 "/a/b/c/cpu.max", "max 100000\n");
    put(V2 "/a/cpu.max", "100000 100000\n");
    assert_int_equal(berth__cgroup_memory_limit(), 3000000);
    assert_int_equal(berth__cgroup_cpus(), 1);
    put(V2 "/memory.max", "2000000\n"); /* a container's own root */
    assert_int_equal(berth__cgroup_memory_limit(), 2000000);
}

static void a_container_that_sees_itself_as_the_root_has_its_limit(void **state) {
    /* With a cgroup namespace, the path says nothing: "/", or one that is not mounted. */
    (void)state;
    put(V2 "/memory.max", "7000000\n");
    put("proc/self/cgroup", "0::/\n");
    assert_int_equal(berth__cgroup_memory_limit(), 7000000);
    put("proc/self/cgroup", "0::/docker/0123456789abcdef\n");
    assert_int_equal(berth__cgroup_memory_limit(), 7000000);
    put("proc/self/cgroup", "0::/"); /* without a newline, too */
    assert_int_equal(berth__cgroup_memory_limit(), 7000000);
}

static void version_1_has_a_hierarchy_for_each_controller(void **state) {
    /* Older hosts would not be limited, or by the group of another controller. */
    (void)state;
    put("proc/self/cgroup", "12:cpuset:/cpusets\n5:cpu,cpuacct:/quota/x\n4:memory:/mem/y\n"
                            "1:name=systemd:/memory\n");
    put(V1_MEMORY "/mem/y/memory.limit_in_bytes", "9223372036854771712\n");
    put(V1_MEMORY "/mem/memory.limit_in_bytes", "6000000\n");
    put(V1_CPU "/quota/x/cpu.cfs_quota_us", "400000\n");
    put(V1_CPU "/quota/x/cpu.cfs_period_us", "100000\n");
    put(V1_CPU "/cpu.cfs_quota_us", "-1\n");
    put(V1_CPU "/cpu.cfs_period_us", "100000\n");
    assert_int_equal(berth__cgroup_memory_limit(), 6000000);
    assert_int_equal(berth__cgroup_cpus(), 4);
}

static void version_1_without_a_limit_has_none(void **state) {
    /* Its way to say "no limit" is a large number, and would be taken for one. */
    (void)state;
    put("proc/self/cgroup", "4:memory:/\n3:cpu:/\n");
    put(V1_MEMORY "/memory.limit_in_bytes", "9223372036854771712\n");
    put(V1_CPU "/cpu.cfs_quota_us", "-1\n");
    put(V1_CPU "/cpu.cfs_period_us", "100000\n");
    assert_int_equal(berth__cgroup_memory_limit(), BERTH_CGROUP_UNLIMITED);
    assert_int_equal(berth__cgroup_cpus(), 0);
}

static void of_two_versions_the_tighter_one_counts(void **state) {
    /* Hybrid hosts have both. */
    (void)state;
    put("proc/self/cgroup", "4:memory:/m\n0::/u\n");
    put(V2 "/u/memory.max", "8000000\n");
    put(V1_MEMORY "/m/memory.limit_in_bytes", "9000000\n");
    assert_int_equal(berth__cgroup_memory_limit(), 8000000);
    put(V1_MEMORY "/m/memory.limit_in_bytes", "1000000\n");
    assert_int_equal(berth__cgroup_memory_limit(), 1000000);
}

static void what_is_no_number_is_no_limit(void **state) {
    /* A file that cannot be understood would become a limit of 0, and every allocation fail. */
    (void)state;
    static const char *const garbage[] = {
        "", "\n", "unlimited\n", "-5\n", "max", " 17\n", "99999999999999999999999\n"};
    put("proc/self/cgroup", "no colon\none:colon\n0::/g\n4:memory:/g\n3:cpu:/g\n");
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(garbage); i++) {
        put(V2 "/g/memory.max", garbage[i]);
        put(V2 "/g/cpu.max", garbage[i]);
        put(V1_MEMORY "/g/memory.limit_in_bytes", garbage[i]);
        put(V1_CPU "/g/cpu.cfs_quota_us", garbage[i]);
        put(V1_CPU "/g/cpu.cfs_period_us", "100000\n");
        assert_int_equal(berth__cgroup_memory_limit(), BERTH_CGROUP_UNLIMITED);
        assert_int_equal(berth__cgroup_cpus(), 0);
    }
    put(V2 "/g/cpu.max", "100000\n"); /* a quota of no period */
    assert_int_equal(berth__cgroup_cpus(), 0);
    put(V2 "/g/cpu.max", "100000 0\n");
    assert_int_equal(berth__cgroup_cpus(), 0);
    put(V2 "/g/cpu.max", "1 100000\n"); /* less than a CPU is one */
    assert_int_equal(berth__cgroup_cpus(), 1);
}

static void a_path_that_is_too_long_is_no_limit(void **state) {
    /* It would be cut, and another group's file read. */
    (void)state;
    static char line[6000];
    memset(line, 'p', sizeof(line) - 1);
    memcpy(line, "0::/", 4);
    put("proc/self/cgroup", line);
    put(V2 "/memory.max", "5000000\n");
    assert_int_equal(berth__cgroup_memory_limit(), 5000000);
}

/* What the opened file holds; "" if none was. */
static const char *pressure(void) {
    static char content[64];
    memset(content, 0, sizeof(content));
    int fd = berth__cgroup_open_pressure();
    if (fd >= 0) {
        assert_true(read(fd, content, sizeof(content) - 1) >= 0);
        assert_int_equal(write(fd, "", 0), 0); /* a trigger can be written */
        close(fd);
    }
    return content;
}

static void pressure_is_the_groups_or_the_machines(void **state) {
    /* A service would give its memory back for others, or not when its own group is short. */
    (void)state;
    assert_string_equal(pressure(), "");
    put("proc/pressure/memory", "machine");
    assert_string_equal(pressure(), "machine");
    put("proc/self/cgroup", "1:name=systemd:/a\n0::/a/b\n");
    assert_string_equal(pressure(), "machine");
    put(V2 "/a/b/memory.pressure", "group");
    assert_string_equal(pressure(), "group");
    put("proc/self/cgroup", "0::/\n");
    put(V2 "/memory.pressure", "container");
    assert_string_equal(pressure(), "container");
}

int main(void) {
#define IN_ROOT(test) cmocka_unit_test_setup_teardown(test, fresh_root, remove_root)
    const struct CMUnitTest tests[] = {
        IN_ROOT(without_cgroup_files_there_is_no_limit),
        IN_ROOT(the_limit_of_version_2_is_the_groups_own),
        IN_ROOT(the_tightest_ancestor_counts),
        IN_ROOT(a_container_that_sees_itself_as_the_root_has_its_limit),
        IN_ROOT(version_1_has_a_hierarchy_for_each_controller),
        IN_ROOT(version_1_without_a_limit_has_none),
        IN_ROOT(of_two_versions_the_tighter_one_counts),
        IN_ROOT(what_is_no_number_is_no_limit),
        IN_ROOT(a_path_that_is_too_long_is_no_limit),
        IN_ROOT(pressure_is_the_groups_or_the_machines),
    };
    return UNIT_RUN(tests);
}
