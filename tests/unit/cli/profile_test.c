/* The profile of another process: its tables may hold anything. Here it is this process. */
#include "figures.h"

#include "cli/profile_write.h"
#include "heap/sample.h"

#include <fcntl.h>

static const struct berth__profile_filter all = {0, 0};
static struct berth__process process;
static FILE *sink;

static int start_of_group(void **state) {
    (void)state;
    process.pid = getpid();
    process.memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    sink = fopen("/dev/null", "we");
    (void)berth_pool_default(); /* which starts the engine */
    berth__sample_set(1);
    for (unsigned i = 1; i < 200; i++) {
        (void)berth_alloc(berth_pool_default(), (size_t)i * 100);
    }
    berth__sample_set(0);
    return process.memory < 0 || sink == NULL;
}

static void write_all_forms(struct berth__profile *profile) {
    for (unsigned m = BERTH_PROFILE_HELD; m <= BERTH_PROFILE_PEAK; m++) {
        enum berth__profile_measure measure = (enum berth__profile_measure)m;
        assert_true(berth__profile_write_pprof(sink, profile, measure));
        berth__profile_write_text(sink, profile, measure);
        berth__profile_write_folded(sink, profile, measure);
        assert_true(berth__profile_write_svg(sink, profile, measure, "a <title> & more"));
        for (unsigned by = BERTH_BY_SITE; by <= BERTH_BY_CLASS; by++) {
            assert_true(
                berth__profile_write_table(sink, profile, measure, (enum berth__profile_by)by, 10));
        }
    }
    assert_true(berth__profile_write_ages(sink, profile, 10));
}

static enum berth__profile_outcome read_at(const void *root) {
    struct berth__profile profile;
    process.stats.samples = (uintptr_t)root;
    enum berth__profile_outcome outcome = berth__profile_read(&profile, &process, &all);
    if (outcome == BERTH_PROFILE_READ) {
        write_all_forms(&profile);
    }
    berth__profile_close(&profile);
    return outcome;
}

static void what_is_followed_is_read(void **state) {
    /* The tool would show something else than the process has noted. */
    (void)state;
    struct berth__profile profile;
    process.stats.samples = (uintptr_t)berth__samples_place();
    assert_int_equal(berth__profile_read(&profile, &process, &all), BERTH_PROFILE_READ);
    double bytes = 0;
    double blocks = 0;
    double asked = 0;
    for (size_t i = 0; i < profile.site_count; i++) {
        bytes += profile.sites[i].held.bytes;
        blocks += profile.sites[i].held.blocks;
        asked += profile.sites[i].requested;
    }
    assert_true(bytes == (double)berth__samples_root()->live_bytes);
    assert_true(blocks > 198.9 && blocks < 199.1);
    assert_true(asked > 1989900 && asked < 1990100); /* the sum of 100 to 19900 */
    assert_true(profile.class_count > 40);
    berth__profile_close(&profile);
    assert_int_equal(read_at(berth__samples_place()), BERTH_PROFILE_READ);
}

static void a_younger_sample_is_not_old(void **state) {
    /* `berth leaks --older 10m` would name whatever is held. */
    (void)state;
    struct berth__profile profile;
    struct berth__profile_filter old = {.age_ms = 3600000};
    assert_int_equal(berth__profile_read(&profile, &process, &old), BERTH_PROFILE_READ);
    for (size_t i = 0; i < profile.site_count; i++) {
        assert_true(profile.sites[i].held.bytes < 1);
    }
    berth__profile_close(&profile);
}

static void no_tables_and_other_versions_are_told_apart(void **state) {
    /* Whoever has not switched samples on would look for another tool. */
    (void)state;
    static struct berth__sample_root root;
    assert_int_equal(read_at(NULL), BERTH_PROFILE_NONE);
    assert_int_equal(read_at((const void *)8), BERTH_PROFILE_NONE); /* nothing is there */
    assert_int_equal(read_at(&root), BERTH_PROFILE_NONE);
    memcpy((void *)&root, (const void *)berth__samples_place(), sizeof(root));
    assert_int_equal(read_at(&root), BERTH_PROFILE_READ);
    root.version++;
    assert_int_equal(read_at(&root), BERTH_PROFILE_BAD);
    root.version--;
    root.site_count = BERTH_SITES_MAX + 1;
    assert_int_equal(read_at(&root), BERTH_PROFILE_BAD);
    root.site_count = 1;
    root.sample_count = BERTH_SAMPLES_MAX; /* blocks that are not there */
    assert_int_equal(read_at(&root), BERTH_PROFILE_BAD);
}

static void damaged_tables_are_survived(void **state) {
    /* The tool would crash, or loop, on a process that is broken or means it badly. */
    (void)state;
    enum { ROUNDS = 300, CHANGES = 40 };
    static struct berth__sample_root root;
    static char sites[BERTH_SAMPLE_BLOCK_BYTES];
    static char samples[BERTH_SAMPLE_BLOCK_BYTES];
    struct unit_random random = {.state = 5};
    for (unsigned round = 0; round < ROUNDS; round++) {
        memcpy((void *)&root, (const void *)berth__samples_place(), sizeof(root));
        memcpy(sites, (const void *)(uintptr_t)root.site_block[0], sizeof(sites));
        memcpy(samples, (const void *)(uintptr_t)root.sample_block[0], sizeof(samples));
        root.site_block[0] = (uintptr_t)sites;
        root.sample_block[0] = (uintptr_t)samples;
        root.site_count = 1 + unit_random_below(&random, BERTH_SITES_PER_BLOCK);
        root.sample_count = unit_random_below(&random, BERTH_SAMPLES_PER_BLOCK);
        for (unsigned i = 0; i < CHANGES; i++) {
            char *where = unit_random_below(&random, 2) == 0 ? sites : samples;
            size_t at = unit_random_below(&random, BERTH_SAMPLE_BLOCK_BYTES / 2);
            where[at] = (char)unit_random_next(&random);
            if (round % 4 == 0) {
                ((char *)&root)[unit_random_below(&random, 128)] = (char)unit_random_next(&random);
            }
        }
        (void)read_at(&root);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_followed_is_read),
        cmocka_unit_test(a_younger_sample_is_not_old),
        cmocka_unit_test(no_tables_and_other_versions_are_told_apart),
        cmocka_unit_test(damaged_tables_are_survived),
    };
    return cmocka_run_group_tests(tests, start_of_group, NULL) == 0 ? 0 : 1;
}
