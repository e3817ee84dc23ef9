/*
 * If this fails, a program that uses libberth under the malloc door has two engines: two limits of
 * which neither holds, and metrics that tell half of the truth.
 *
 * This program is linked with libberth; the door is preloaded, or linked, too, as a library or
 * statically. EDGE_OTHER_VERSION names a library that looks like the door of another version.
 */
#include "edge.h"

#include <berth/berth.h>

static uint64_t live_bytes(void) {
    struct berth_process_metrics metrics;
    CHECK(berth_metrics_read(&metrics, sizeof(metrics)) >= 0);
    return metrics.live_high_bytes;
}

static void one_ledger_counts_both(void) {
    enum { MORE = 20 << 20 };
    uint64_t before = berth_limit_used();
    char *ours = malloc(MORE);
    CHECK(ours != NULL);
    uint64_t with_malloc = berth_limit_used();
    char *theirs = berth_alloc(berth_pool_default(), MORE);
    CHECK(theirs != NULL);
    CHECK(with_malloc >= before + MORE && berth_limit_used() >= with_malloc + MORE);
    free(ours);
    berth_free(theirs);
}

static void one_limit_holds_for_both(void) {
    enum { STEP = 100000 };
    static void *blocks[2000];
    size_t count = 0;
    CHECK(berth_limit_set(64 << 20) == 0);
    for (; count < COUNT_OF(blocks); count++) {
        blocks[count] = count % 2 == 0
                            ? malloc(STEP)
                            : berth_alloc_flags(berth_pool_default(), STEP, BERTH_NOWAIT);
        if (blocks[count] == NULL) {
            break;
        }
    }
    CHECK(count > (48u << 20) / STEP && count < (64u << 20) / STEP);
    CHECK(malloc(8 << 20) == NULL);
    CHECK(berth_alloc_flags(berth_pool_default(), 8 << 20, BERTH_NOWAIT) == NULL);
    CHECK(berth_limit_used() <= 64 << 20);
    CHECK(berth_limit_set(UINT64_MAX) == 0);
    char *more = malloc(8 << 20);
    CHECK(more != NULL);
    free(more);
}

/* Buffers are in libberth alone; what they hold is of the engine that serves the process. */
static void buffers_are_of_the_same_engine(void) {
    enum { MORE = 20 << 20 };
    uint64_t before = live_bytes();
    struct berth_slice slice, part;
    CHECK(berth_slice_alloc(berth_pool_default(), MORE, &slice) == 0);
    CHECK(live_bytes() >= before + MORE);
    CHECK(berth_pool_of(slice.data) == berth_pool_default());
    CHECK(berth_slice_sub(&slice, MORE - 1, 1, &part) == 0);
    berth_slice_release(&slice);
    struct berth_slice pinned = berth_slice_pin(&part);
    berth_slice_unpin(&pinned);
    berth_slice_release(&part);
    CHECK(live_bytes() < before + MORE);
}

static void metrics_tell_of_both(void) {
    enum { MORE = 30 << 20 };
    uint64_t before = live_bytes();
    char *ours = malloc(MORE);
    CHECK(ours != NULL && live_bytes() >= before + MORE);
    berth_pool *pool = berth_pool_create("edge", NULL);
    char *theirs = berth_alloc(pool, MORE);
    CHECK(theirs != NULL && live_bytes() >= before + 2 * (uint64_t)MORE);
    free(ours);
    berth_free(theirs);
    CHECK(berth_pool_destroy(pool, 0) == 0);
}

/* What malloc gave is of the default pool, and each side frees what the other made. */
static void blocks_are_of_one_engine(void) {
    for (size_t size = 1; size < 20u << 20; size *= 3) {
        char *ours = malloc(size);
        char *theirs = berth_alloc(berth_pool_default(), size);
        CHECK(ours != NULL && theirs != NULL);
        CHECK(berth_pool_of(ours) == berth_pool_default());
        CHECK(berth_usable_size(ours) == malloc_usable_size(ours));
        CHECK(malloc_usable_size(theirs) >= size);
        edge_fill(ours, size, 1);
        edge_fill(theirs, size, 2);
        CHECK(edge_holds(ours, size, 1) && edge_holds(theirs, size, 2));
        berth_free(ours);
        free(theirs);
    }
}

static void do_nothing(void) {
}

static void another_version_stops_the_process(void) {
    const char *other = getenv("EDGE_OTHER_VERSION");
    if (other == NULL) {
        edge_skip("the door is in this program, and is found first");
    }
    CHECK(setenv("LD_PRELOAD", other, 1) == 0);
    struct edge_outcome outcome;
    edge_run_self("do_nothing", &outcome);
    if (!edge_died_of(&outcome, SIGABRT) || edge_lines(outcome.text) != 1 ||
        strstr(outcome.text, other) == NULL || strstr(outcome.text, "libberth.so") == NULL) {
        FAIL("status %#x: %s", (unsigned)outcome.status, outcome.text);
    }
}

static const struct edge_case cases[] = {
    EDGE_CASE(one_ledger_counts_both),         EDGE_CASE(one_limit_holds_for_both),
    EDGE_CASE(buffers_are_of_the_same_engine), EDGE_CASE(metrics_tell_of_both),
    EDGE_CASE(blocks_are_of_one_engine),       EDGE_CASE(another_version_stops_the_process),
};
static const struct edge_case hidden[] = {EDGE_CASE(do_nothing)};

int main(int argc, char **argv) {
    return edge_main_hiding(argc, argv, cases, COUNT_OF(cases), hidden, COUNT_OF(hidden));
}
