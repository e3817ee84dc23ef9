/* Reading stats pages that are damaged, of another version, or made to harm the reader. */
#include "unit.h"

#include "base/bits.h"
#include "cli/page_read.h"
#include "metrics/page.h"
#include "metrics/write.h"
#include "os/clock.h"

#include <berth/berth.h>

#include <string.h>

static char *sound; /* a copy of this process's page */
static size_t sound_bytes;

static int start_of_group(void **state) {
    (void)state;
    UNIT_CHECK(berth_pool_create("second", NULL) != NULL); /* before there is a page */
    for (unsigned i = 0; i < 100; i++) {
        UNIT_CHECK(berth_alloc(berth_pool_default(), i * 300) != NULL);
    }
    for (unsigned i = 0; i < 4000 && berth__stats_page() == NULL; i++) {
        usleep(5000);
        berth_trim(NULL);
    }
    const struct berth__stats_head *head = berth__stats_page();
    UNIT_CHECK(head != NULL);
    sound_bytes = head->used_bytes;
    sound = malloc(sound_bytes);
    memcpy(sound, (const void *)head, sound_bytes);
    return 0;
}

static void count(void *context, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        UNIT_CHECK(text[i] == '\n' || (text[i] >= ' ' && text[i] <= '~'));
    }
    *(size_t *)context += length;
}

/* A copy of just that length, so that a sanitizer sees every byte that is read behind it. What is
 * found sound must be such that it can be written. */
static enum berth__page_fault judge(const char *page, size_t bytes) {
    struct berth__stats stats;
    void *copy = malloc(bytes + (bytes == 0));
    memcpy(copy, page, bytes);
    enum berth__page_fault fault = berth__stats_read(&stats, copy, bytes);
    if (fault == BERTH_PAGE_SOUND) {
        size_t written = 0;
        berth__snapshot_write(&stats.snapshot, BERTH_METRICS_JSON, BERTH_METRICS_ALL, count,
                              &written);
        berth__snapshot_write(&stats.snapshot, BERTH_METRICS_OPENMETRICS, BERTH_METRICS_ALL, count,
                              &written);
        berth__snapshot_write(&stats.snapshot, BERTH_METRICS_TEXT, BERTH_METRICS_ALL, count,
                              &written);
        UNIT_CHECK(written > 0);
        (void)berth__stats_figure(&stats, "limit_used_bytes", 0);
    }
    berth__stats_free(&stats);
    free(copy);
    return fault;
}

/* ---- what is told apart ---- */

static struct berth__stats_head *head_of(char *page) {
    return (struct berth__stats_head *)(void *)page;
}

static struct berth__stats_level *level_of(char *page, unsigned number) {
    char *levels = page + head_of(page)->levels;
    return (struct berth__stats_level *)(void *)levels + number;
}

static void faults_are_told_apart(void **state) {
    /* The tool would tell a user of another version that memory is damaged. */
    (void)state;
    char *page = malloc(sound_bytes);
    assert_int_equal(judge(sound, sound_bytes), BERTH_PAGE_SOUND);
    memcpy(page, sound, sound_bytes);
    head_of(page)->magic++;
    assert_int_equal(judge(page, sound_bytes), BERTH_PAGE_NONE);
    memcpy(page, sound, sound_bytes);
    head_of(page)->version++;
    assert_int_equal(judge(page, sound_bytes), BERTH_PAGE_OTHER_VERSION);
    memcpy(page, sound, sound_bytes);
    head_of(page)->sequence++;
    assert_int_equal(judge(page, sound_bytes), BERTH_PAGE_UNFINISHED);
    memcpy(page, sound, sound_bytes);
    head_of(page)->levels += 4;
    assert_int_equal(judge(page, sound_bytes), BERTH_PAGE_DAMAGED);
    memcpy(page, sound, sound_bytes);
    head_of(page)->level_count = 0;
    assert_int_equal(judge(page, sound_bytes), BERTH_PAGE_DAMAGED);
    memcpy(page, sound, sound_bytes);
    level_of(page, BERTH_LEVEL_CLASS)->row_bytes = 8; /* shorter than its fields */
    level_of(page, BERTH_LEVEL_CLASS)->rows = berth__round_down(sound_bytes, 8) - 8;
    level_of(page, BERTH_LEVEL_CLASS)->row_count = 1;
    assert_int_equal(judge(page, sound_bytes), BERTH_PAGE_DAMAGED);
    memcpy(page, sound, sound_bytes);
    memset(page + sound_bytes - 8, 'x', 8); /* a name that goes on to the end, and beyond */
    level_of(page, BERTH_LEVEL_PROCESS)->prefix = (uint32_t)sound_bytes - 8;
    assert_int_equal(judge(page, sound_bytes), BERTH_PAGE_DAMAGED);
    free(page);
}

static void names_that_would_reach_a_terminal_are_refused(void **state) {
    /* A process could send its reader's terminal, or Prometheus, what it likes. */
    (void)state;
    static const char *const bad[] = {"\033[2J", "a\177b", "a\nb", "a\tb", "\xc3\xa4"};
    char *page = malloc(sound_bytes);
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(bad); i++) {
        memcpy(page, sound, sound_bytes);
        char *pool = page + level_of(page, BERTH_LEVEL_POOL)->rows;
        memcpy(pool, bad[i], strlen(bad[i]) + 1);
        assert_int_equal(judge(page, sound_bytes), BERTH_PAGE_DAMAGED);
        memcpy(page, sound, sound_bytes);
        char *field = page + level_of(page, BERTH_LEVEL_POOL)->fields;
        char *name = page + ((struct berth__stats_field *)(void *)field)->name;
        memcpy(name, bad[i], strlen(bad[i]) + 1);
        assert_int_equal(judge(page, sound_bytes), BERTH_PAGE_DAMAGED);
    }
    memcpy(page, sound, sound_bytes);
    char *pool = page + level_of(page, BERTH_LEVEL_POOL)->rows;
    memset(pool, 'x', 32); /* without an end */
    assert_int_equal(judge(page, sound_bytes), BERTH_PAGE_DAMAGED);
    free(page);
}

static void a_page_with_more_fields_and_levels_shows_what_is_known(void **state) {
    /* A tool would have to be as new as every process. */
    (void)state;
    enum { MORE = 8 };
    struct berth__stats stats;
    size_t bytes = berth__round_up(sound_bytes, 8) + 4096;
    char *page = calloc(1, bytes);
    memcpy(page, sound, sound_bytes);
    /* Longer levels, and one level more than there are, at the end of the page. */
    size_t length = sizeof(struct berth__stats_level) + MORE;
    size_t levels = berth__round_up(sound_bytes, 8);
    for (unsigned i = 0; i < BERTH_LEVEL_COUNT; i++) {
        memcpy(page + levels + i * length, level_of(page, i), sizeof(struct berth__stats_level));
    }
    head_of(page)->levels = (uint32_t)levels;
    head_of(page)->level_bytes = (uint32_t)length;
    head_of(page)->level_count = BERTH_LEVEL_COUNT + 1;
    assert_int_equal(berth__stats_read(&stats, page, bytes), BERTH_PAGE_SOUND);
    assert_true(berth__stats_figure(&stats, "pools", 0) == 2);
    assert_true(berth__stats_figure(&stats, "no_such_figure", 77) == 77);
    assert_string_equal(stats.snapshot.rows[BERTH_LEVEL_POOL][1].pool, "second");
    berth__stats_free(&stats);
    free(page);
}

/* ---- anything ---- */

static void a_page_that_ends_anywhere_harms_nobody(void **state) {
    /* The tool would crash on a process that is just changing its page. */
    (void)state;
    for (size_t bytes = 0; bytes < sound_bytes; bytes += bytes < 1024 ? 1 : 61) {
        assert_int_not_equal(judge(sound, bytes), BERTH_PAGE_SOUND);
    }
}

/* Words that are likely to be taken for lengths and offsets. */
static uint64_t hostile_word(struct unit_random *random) {
    static const uint64_t words[] = {0, 1, 7, 8, UINT32_MAX, UINT64_MAX, INT64_MAX, 1u << 31};
    uint64_t pick = unit_random_next(random);
    return pick % 3 == 0   ? words[pick / 3 % BERTH_ARRAY_COUNT(words)]
           : pick % 3 == 1 ? sound_bytes - pick / 3 % 64
                           : pick / 3;
}

static void mutated_pages_harm_nobody(void **state) {
    /* A hostile process could take over the tool, which may run as root. */
    (void)state;
    enum { PAGES = 6000 };
    struct unit_random random = {2026};
    char *page = malloc(sound_bytes);
    unsigned sound_count = 0;
    uint64_t start_ns = berth__clock_ns();
    for (unsigned i = 0; i < PAGES && berth__clock_ns() - start_ns < UINT64_C(8000000000); i++) {
        memcpy(page, sound, sound_bytes);
        unsigned changes = 1 + (unsigned)unit_random_below(&random, 4);
        for (unsigned c = 0; c < changes; c++) {
            size_t most = unit_random_below(&random, 4) == 0 ? sound_bytes : 4096;
            uint64_t word = hostile_word(&random);
            size_t width = unit_random_below(&random, 2) == 0 ? 4 : 8;
            size_t at = 8 + unit_random_below(&random, berth__min(most, sound_bytes) - 16);
            memcpy(page + (at & ~(size_t)3), &word, width);
        }
        sound_count += judge(page, sound_bytes) == BERTH_PAGE_SOUND;
    }
    assert_true(sound_count > 0);
    free(page);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(faults_are_told_apart),
        cmocka_unit_test(names_that_would_reach_a_terminal_are_refused),
        cmocka_unit_test(a_page_with_more_fields_and_levels_shows_what_is_known),
        cmocka_unit_test(a_page_that_ends_anywhere_harms_nobody),
        cmocka_unit_test(mutated_pages_harm_nobody),
    };
    return cmocka_run_group_tests(tests, start_of_group, NULL) == 0 ? 0 : 1;
}
