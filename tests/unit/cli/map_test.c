/* The map of a process's memory: this process looks at itself, through /proc/self/mem. */
#include "own_page.h"

#include "cli/figures.h"
#include "cli/map_write.h"
#include "cli/outside.h"
#include "heap/mixed.h"
#include "os/clock.h"

#include <berth/berth.h>

#include <fcntl.h>
#include <string.h>

enum {
    SLABS = 10,
    SMALL = 1024, /* 64 of them fill a slab */
    SMALL_COUNT = SLABS * 64,
    RUNS = 7,
    RUN = 40 * 4096,
    TWINS = 5,
    TWIN = 18 << 10,
    HUGE_COUNT = 2,
    HUGE = (5 << 20) + 4096,
};

static struct berth__process self;
static struct berth__outside outside;
static berth_pool *pool;
static void *small[SMALL_COUNT], *runs[RUNS], *twins[TWINS], *huge[HUGE_COUNT];

static void make_layout(void) {
    pool = berth_pool_create("known", NULL);
    UNIT_CHECK(pool != NULL);
    for (unsigned i = 0; i < SMALL_COUNT; i++) {
        small[i] = berth_alloc(pool, SMALL);
        memset(small[i], 1, SMALL);
    }
    for (unsigned i = 0; i < RUNS; i++) {
        runs[i] = berth_alloc(pool, RUN);
        memset(runs[i], 1, RUN);
    }
    for (unsigned i = 0; i < TWINS; i++) {
        twins[i] = berth_alloc(pool, TWIN);
    }
    for (unsigned i = 0; i < HUGE_COUNT; i++) {
        huge[i] = berth_alloc(pool, HUGE);
        memset(huge[i], 1, 1 << 20); /* the rest stays untouched */
    }
}

static int start_of_group(void **state) {
    (void)state;
    make_layout();
    unit_read_own_page(&self);
    self.memory = open("/proc/self/mem", O_RDONLY);
    UNIT_CHECK(self.memory >= 0);
    berth__outside_open(&outside, &self);
    return 0;
}

static void look(struct berth__seen *seen, struct berth__map *map) {
    assert_true(berth__seen_read(seen, &self.stats, berth__outside_memory(&outside)));
    assert_true(berth__seen_read_caches(seen));
    assert_true(berth__map_read(map, seen, berth__outside_residency(&outside)));
    assert_int_equal(seen->torn, 0);
}

static void end_look(struct berth__seen *seen, struct berth__map *map) {
    berth__map_free(map);
    berth__seen_close(seen);
}

static const struct berth__map_sums *sums_of(const struct berth__map *map, const char *name) {
    for (unsigned i = 0; i < map->engine->pool_count; i++) {
        if (strcmp(berth__map_pool_name(map, i), name) == 0) {
            return &map->sums[i];
        }
    }
    return NULL;
}

/* ---- the truth ---- */

static void check_sums_of(const struct berth__map *map, const berth_pool *of, const char *name) {
    struct berth_pool_metrics metrics;
    assert_int_equal(berth_metrics_read_pool(of, &metrics, sizeof(metrics)), 0);
    const struct berth__map_sums *sums = sums_of(map, name);
    assert_non_null(sums);
    assert_int_equal(sums->chunk_bytes, metrics.chunk_bytes);
    assert_int_equal(sums->slab_lent_bytes, metrics.slab_lent_bytes);
    assert_int_equal(sums->slab_free_bytes, metrics.slab_free_bytes);
    assert_int_equal(sums->slab_tail_bytes, metrics.slab_tail_bytes);
    assert_int_equal(sums->run_lent_bytes, metrics.run_lent_bytes);
    assert_int_equal(sums->run_cached_bytes, metrics.run_cached_bytes);
    assert_int_equal(sums->run_free_bytes, metrics.run_free_bytes);
    assert_int_equal(sums->run_dirty_bytes, metrics.run_dirty_bytes);
    assert_int_equal(sums->huge_bytes, metrics.huge_bytes);
    assert_int_equal(sums->huge_blocks, metrics.huge_blocks);
    assert_int_equal(sums->file_bytes, metrics.file_bytes);
}

static void check_sums(const struct berth__map *map) {
    struct berth_process_metrics process;
    assert_int_equal(berth_metrics_read(&process, sizeof(process)), 0);
    assert_int_equal(map->sums[map->engine->pool_count].retained_bytes, process.retained_bytes);
    check_sums_of(map, pool, "known");
}

static unsigned count_things(const struct berth__map *map, enum berth__map_kind kind,
                             uint32_t pages, unsigned *live) {
    unsigned count = 0;
    for (size_t i = 0; i < map->count; i++) {
        const struct berth__map_stretch *stretch = &map->stretches[i];
        bool known = strcmp(berth__map_pool_name(map, stretch->pool), "known") == 0;
        for (size_t thing = 0; known && thing < stretch->thing_count; thing++) {
            const struct berth__map_thing *at = &stretch->things[thing];
            if (at->kind == kind && (pages == 0 || at->pages == pages) &&
                (kind != BERTH_MAP_A_SLAB || map->engine->classes[at->small_class].size == SMALL)) {
                count++;
                *live += at->live;
            }
        }
    }
    return count;
}

static void a_known_layout_is_seen_as_it_is(void **state) {
    /* Who decides by the picture what to change in a server would be misled. */
    (void)state;
    struct berth__seen seen;
    struct berth__map map;
    unsigned live = 0;
    berth_thread_flush();
    look(&seen, &map);
    check_sums(&map);
    assert_int_equal(count_things(&map, BERTH_MAP_A_SLAB, 0, &live), SLABS);
    assert_int_equal(live, SMALL_COUNT);
    live = 0;
    assert_int_equal(count_things(&map, BERTH_MAP_A_RUN, RUN / 4096, &live), RUNS);
    assert_int_equal(live, RUNS);
    live = 0;
    assert_int_equal(count_things(&map, BERTH_MAP_TWINS, 0, &live), (TWINS + 1) / 2);
    assert_int_equal(live, TWINS);
    live = 0;
    assert_int_equal(count_things(&map, BERTH_MAP_A_HUGE, HUGE / 4096, &live), HUGE_COUNT);
    end_look(&seen, &map);
}

static void parts_of_cut_blocks_are_in_the_sums(void **state) {
    /* The map and the metrics would contradict each other. */
    (void)state;
    enum { BLOCKS = 2000, PARTS = 1500 };
    static void *blocks[BLOCKS], *parts[PARTS];
    struct berth__seen seen;
    struct berth__map map;
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.arenas = 1;
    berth_pool *cut = berth_pool_create("cut", &options);
    struct berth__mixed_policy before = berth__mixed_policy;
    berth__mixed_policy = (struct berth__mixed_policy){.free_bytes = 1, .free_share = UINT32_MAX};
    assert_int_equal(berth_alloc_batch(cut, 1050, BLOCKS, blocks), BLOCKS);
    for (unsigned i = 0; i < BLOCKS; i += 2) {
        berth_free(blocks[i]);
    }
    berth_thread_flush();
    assert_int_equal(berth_alloc_batch(cut, 320, PARTS, parts), PARTS);
    unsigned mixed = 0;
    for (unsigned i = 0; i < PARTS; i++) {
        uint64_t entry = berth__load_relaxed(berth__entry_find(parts[i]));
        mixed += BERTH_ENTRY_KIND(entry) == BERTH_UNIT_MIXED;
    }
    assert_true(mixed > PARTS / 2);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = round; i < PARTS; i += 5) {
            berth_free(parts[i]);
        }
        if (round == 0) {
            berth_thread_flush(); /* the second time some lie in the cache */
        }
        look(&seen, &map);
        check_sums_of(&map, cut, "cut");
        assert_int_equal(sums_of(&map, "cut")->slab_cached_bytes > 0, round == 1);
        end_look(&seen, &map);
    }
    berth__mixed_policy = before;
    assert_int_equal(berth_pool_destroy(cut, BERTH_FORCE), 0);
}

/* What a page of this process is in the map, with whether it holds memory. */
static int state_at(const struct berth__map *map, const void *address) {
    uint64_t at = (uintptr_t)address;
    for (size_t i = 0; i < map->count; i++) {
        const struct berth__map_stretch *stretch = &map->stretches[i];
        if (at - stretch->at < stretch->pages * UINT64_C(4096)) {
            return stretch->states[(at - stretch->at) / 4096];
        }
    }
    return -1;
}

static void what_was_freed_and_purged_is_shown_so(void **state) {
    /* Memory that went back to the kernel would look as if it were used. */
    (void)state;
    struct berth__seen seen;
    struct berth__map map;
    const char *block = small[SMALL_COUNT / 2];
    const char *run = runs[3];
    const char *big = huge[0];
    for (unsigned i = SMALL_COUNT / 2; i < SMALL_COUNT / 2 + 128; i++) { /* two slabs, or more */
        berth_free(small[i]);
        small[i] = NULL;
    }
    berth_free(runs[3]);
    runs[3] = NULL;
    berth_free(huge[0]);
    huge[0] = NULL;
    look(&seen, &map); /* before the caches are flushed: what they hold is told apart */
    assert_true(sums_of(&map, "known")->slab_cached_bytes > 0);
    int of_big = state_at(&map, big); /* kept for a while; on a slow machine that may be over */
    assert_true(of_big == -1 || (of_big & BERTH_MAP_STATE_MASK) == BERTH_MAP_RETAINED);
    end_look(&seen, &map);
    berth_thread_flush();
    berth_trim(NULL);
    look(&seen, &map);
    check_sums(&map);
    int of_block = state_at(&map, block);
    assert_true(of_block == BERTH_MAP_CLEAN || of_block == BERTH_MAP_COLD || of_block == -1);
    int of_run = state_at(&map, run);
    assert_true(of_run == BERTH_MAP_CLEAN || of_run == -1);
    assert_int_equal(state_at(&map, big), -1);
    if (map.knows_residency) {
        assert_int_equal(state_at(&map, huge[1]), BERTH_MAP_HUGE | BERTH_MAP_RESIDENT);
        assert_int_equal(state_at(&map, (char *)huge[1] + (4 << 20)), BERTH_MAP_HUGE);
        assert_int_equal(state_at(&map, small[0]), BERTH_MAP_SMALL | BERTH_MAP_RESIDENT);
    }
    end_look(&seen, &map);
}

static void what_threads_keep_is_told_from_what_cpus_keep(void **state) {
    /* The sums would differ from the metrics by what is in stashes. */
    (void)state;
    struct berth__seen seen;
    struct berth__map map;
    for (unsigned i = 0; i < 400; i++) {
        berth_free(berth_alloc(pool, 40000));
    }
    look(&seen, &map);
    check_sums(&map);
    assert_true(sums_of(&map, "known")->run_stash_bytes > 0);
    end_look(&seen, &map);
}

static void files_and_memory_that_was_given_are_seen(void **state) {
    /* A pool over a program's own memory would not be drawn, nor would mapped files. */
    (void)state;
    enum { GIVEN = (5 << 20) + 3 * 65536, FILE_BYTES = 10000 };
    struct berth_pool_options options = BERTH_POOL_OPTIONS_INIT;
    options.memory = aligned_alloc(65536, GIVEN);
    options.memory_size = GIVEN;
    berth_pool *given = berth_pool_create("given", &options);
    assert_non_null(given);
    void *block = berth_alloc(given, 100000);
    void *tiny = berth_alloc(given, 50);
    char path[] = "/tmp/berth-map-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(ftruncate(fd, FILE_BYTES), 0);
    void *file = berth_map_file(pool, fd, 0, FILE_BYTES, false);
    assert_non_null(file);
    berth_thread_flush();
    struct berth__seen seen;
    struct berth__map map;
    look(&seen, &map);
    check_sums(&map);
    check_sums_of(&map, given, "given");
    assert_int_equal(sums_of(&map, "given")->chunk_bytes, GIVEN);
    assert_int_equal(state_at(&map, file) & BERTH_MAP_STATE_MASK, BERTH_MAP_FILE);
    assert_int_equal(state_at(&map, block) & BERTH_MAP_STATE_MASK, BERTH_MAP_RUN);
    assert_int_equal(state_at(&map, tiny) & BERTH_MAP_STATE_MASK, BERTH_MAP_PART);
    end_look(&seen, &map);
    berth_free(file);
    close(fd);
    unlink(path);
    assert_int_equal(berth_pool_destroy(given, BERTH_FORCE), 0);
    free(options.memory);
}

static void pinned_chunks_are_marked(void **state) {
    /* Nobody would see why a chunk does not go back. */
    (void)state;
    struct berth__seen seen;
    struct berth__map map;
    struct berth_slice slice;
    assert_int_equal(berth_slice_alloc(pool, 100, &slice), 0);
    struct berth_slice pin = berth_slice_pin(&slice);
    look(&seen, &map);
    unsigned pinned = 0;
    for (size_t i = 0; i < map.count; i++) {
        pinned += map.stretches[i].pins;
    }
    assert_int_equal(pinned, 1);
    end_look(&seen, &map);
    berth_slice_unpin(&pin);
    berth_slice_release(&slice);
}

static void reserved_addresses_are_those_of_the_spans(void **state) {
    /* The total of `berth diff` would be wrong. */
    (void)state;
    struct berth__seen seen;
    assert_true(berth__seen_read(&seen, &self.stats, berth__outside_memory(&outside)));
    assert_true(berth__seen_reserved(&seen) >= 16 << 20);
    assert_int_equal(berth__seen_reserved(&seen) % 65536, 0);
    berth__seen_close(&seen);
}

/* ---- hostile memory ---- */

struct hostile {
    struct unit_random random;
    unsigned one_in; /* reads: a word of what was read is changed */
};

static uint64_t hostile_word(struct unit_random *random) {
    static const uint64_t words[] = {0,          1,         7,          UINT16_MAX, UINT32_MAX,
                                     UINT64_MAX, INT64_MAX, 1u << 31,   4096,       65536,
                                     4 << 20,    91,        1ull << 40, 24576};
    uint64_t pick = unit_random_next(random);
    return pick % 2 == 0 ? words[pick / 2 % BERTH_ARRAY_COUNT(words)] : pick >> (pick % 60);
}

static bool read_hostile(void *context, uint64_t address, void *to, size_t bytes) {
    struct hostile *hostile = context;
    struct berth__memory memory = berth__outside_memory(&outside);
    if (!memory.read(memory.context, address, to, bytes)) {
        return false;
    }
    if (bytes >= 1 && unit_random_below(&hostile->random, hostile->one_in) == 0) {
        for (size_t i = 1 + unit_random_below(&hostile->random, 3); i > 0; i--) {
            uint64_t word = hostile_word(&hostile->random);
            size_t width = bytes < 8 ? bytes : 8;
            size_t at = unit_random_below(&hostile->random, bytes - width + 1);
            memcpy((char *)to + (bytes >= 16 ? at & ~(size_t)7 : at), &word, width);
        }
    }
    return unit_random_below(&hostile->random, 5000) != 0;
}

/* All forms are written, so that whatever was believed comes to light. */
static void write_all(const struct berth__map *map, FILE *to) {
    const struct berth__map_title title = {1, "name", "version"};
    UNIT_CHECK(fseek(to, 0, SEEK_SET) == 0);
    berth__map_write_text(map, &title, to);
    berth__map_write_json(map, &title, to);
    berth__map_write_svg(map, &title, to);
    berth__map_write_html(map, &title, to);
}

/* True if it was read to the end. */
static bool look_hostile(struct hostile *hostile, struct berth__stats *stats, FILE *to) {
    struct berth__seen seen;
    struct berth__map map = {.count = 0};
    bool read = berth__seen_read(&seen, stats, (struct berth__memory){read_hostile, hostile});
    if (read) {
        (void)berth__seen_reserved(&seen);
        read = berth__seen_read_caches(&seen) &&
               berth__map_read(&map, &seen, berth__outside_residency(&outside));
    }
    UNIT_CHECK(read || seen.why != NULL || map.why != NULL);
    if (read && map.total_pages < 100000) {
        write_all(&map, to);
    }
    berth__map_free(&map);
    berth__seen_close(&seen);
    return read;
}

static void memory_that_changes_while_it_is_read_harms_nobody(void **state) {
    /* A process at full speed, or a hostile one, would crash the tool, which may run as root. */
    (void)state;
    enum { ROUNDS = 400 };
    struct hostile hostile = {.random = {2026}};
    FILE *to = fopen("/dev/null", "w");
    uint64_t start_ns = berth__clock_ns();
    unsigned read = 0;
    for (unsigned i = 0; i < ROUNDS && berth__clock_ns() - start_ns < UINT64_C(20000000000); i++) {
        hostile.one_in = 2u << (i % 9);
        read += look_hostile(&hostile, &self.stats, to);
    }
    assert_true(read > 0);
    assert_int_equal(fclose(to), 0);
}

static void layouts_that_lie_harm_nobody(void **state) {
    /* The numbers on the page are as little to be believed as the memory. */
    (void)state;
    enum { ROUNDS = 600 };
    struct hostile hostile = {.random = {7}, .one_in = 100000};
    FILE *to = fopen("/dev/null", "w");
    char *copy = malloc(self.stats.page_bytes);
    uint64_t start_ns = berth__clock_ns();
    for (unsigned i = 0; i < ROUNDS && berth__clock_ns() - start_ns < UINT64_C(20000000000); i++) {
        struct berth__stats stats = self.stats;
        memcpy(copy, self.stats.page, self.stats.page_bytes);
        stats.layout = copy + (self.stats.layout - self.stats.page);
        for (size_t changes = 1 + unit_random_below(&hostile.random, 2); changes > 0; changes--) {
            uint64_t word = hostile_word(&hostile.random);
            size_t item = unit_random_below(&hostile.random, BERTH_LAYOUT_COUNT);
            memcpy(copy + (stats.layout - copy) + item * 8, &word, 8);
        }
        (void)look_hostile(&hostile, &stats, to);
    }
    free(copy);
    assert_int_equal(fclose(to), 0);
}

static void other_layouts_are_told(void **state) {
    /* The tool would draw nonsense of a newer process, or of an older one. */
    (void)state;
    struct berth__seen seen;
    struct berth__stats stats = self.stats;
    stats.layout = NULL;
    assert_false(berth__seen_read(&seen, &stats, berth__outside_memory(&outside)));
    assert_non_null(strstr(seen.why, "too old"));
    berth__seen_close(&seen);
    stats = self.stats;
    stats.layout_count = BERTH_LAYOUT_COUNT - 1;
    assert_false(berth__seen_read(&seen, &stats, berth__outside_memory(&outside)));
    assert_non_null(strstr(seen.why, "too old"));
    berth__seen_close(&seen);
    uint64_t layout[BERTH_LAYOUT_COUNT] = {BERTH_LAYOUT_VERSION + 1};
    stats.layout = (const char *)layout;
    stats.layout_count = BERTH_LAYOUT_COUNT;
    assert_false(berth__seen_read(&seen, &stats, berth__outside_memory(&outside)));
    assert_non_null(strstr(seen.why, "does not know"));
    berth__seen_close(&seen);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_known_layout_is_seen_as_it_is),
        cmocka_unit_test(parts_of_cut_blocks_are_in_the_sums),
        cmocka_unit_test(what_was_freed_and_purged_is_shown_so),
        cmocka_unit_test(what_threads_keep_is_told_from_what_cpus_keep),
        cmocka_unit_test(files_and_memory_that_was_given_are_seen),
        cmocka_unit_test(pinned_chunks_are_marked),
        cmocka_unit_test(reserved_addresses_are_those_of_the_spans),
        cmocka_unit_test(memory_that_changes_while_it_is_read_harms_nobody),
        cmocka_unit_test(layouts_that_lie_harm_nobody),
        cmocka_unit_test(other_layouts_are_told),
    };
    return cmocka_run_group_tests(tests, start_of_group, NULL) == 0 ? 0 : 1;
}
