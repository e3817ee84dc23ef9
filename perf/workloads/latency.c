/*
 * latency: how long single calls of malloc and free take, to the last one in 10,000 and the worst.
 * The traffic is that of the server load: 2000 blocks of 16 bytes to 192 KiB a thread, a quarter of
 * the frees on other threads.
 *
 * Punishes: slow paths that do much at once: a whole slab cut up, a purge of many pages, a lock
 * held across a system call. Means hide all of it.
 *
 * What is measured: a call's time on the processor. CLOCK_THREAD_CPUTIME_ID says that directly but
 * is a system call of some hundred nanoseconds, more than ten times what it would measure. So each
 * call is timed with the processor's counter (20 to 40 ns with its fences; the median of empty
 * intervals is subtracted), and the thread's processor clock is read every ANCHOR_CALLS calls
 * outside the intervals. Where a call took longer than SLOW_NS, the clock is read once more: time
 * that passed since the last anchor without the thread running is taken off the call. Below
 * SLOW_NS there is no room for a switch to another thread and back. What remains in the figure:
 * interrupts, and what the hypervisor takes without telling. Wall time is noted too: it adds
 * waiting for locks, and other programs' turns.
 */
#include "load.h"
#include "ticks.h"

#include <stdatomic.h>
#include <time.h>

enum { SLOTS = 2000, POSTS = 256, ANCHOR_CALLS = 64, SLOW_NS = 4000 };

/* Logarithmic buckets, 32 to the doubling: a quantile is at most 3 % too high. */
enum { STEPS_LOG2 = 5, STEPS = 1 << STEPS_LOG2, OCTAVES = 40, BUCKETS = OCTAVES * STEPS };

struct histogram {
    uint64_t count[BUCKETS];
    uint64_t most;
};

enum { MALLOC_CPU, MALLOC_WALL, FREE_CPU, FREE_WALL, HISTOGRAMS };

struct timer {
    double ns_per_tick;
    uint64_t overhead; /* ticks of an empty interval */
    uint64_t slow;     /* SLOW_NS in ticks */
};

/* One thread's measurement. */
struct stopwatch {
    const struct timer *timer;
    unsigned calls;
    uint64_t anchor_ticks;
    uint64_t anchor_cpu_ns;
    struct histogram histograms[HISTOGRAMS];
};

struct post {
    _Alignas(CACHE_LINE) _Atomic(void *) block;
};

struct latency {
    uint64_t rounds;
    uint32_t exchange_below;
    struct timer timer;
    struct mix mix;
    struct post posts[POSTS];
    struct stopwatch *stopwatches; /* by worker */
};

/* ---- histograms ---- */

static unsigned bucket_of(uint64_t ticks) {
    if (ticks < STEPS)
        return (unsigned)ticks;
    unsigned octave = 63 - (unsigned)__builtin_clzll(ticks) - STEPS_LOG2;
    unsigned bucket = (octave + 1) * STEPS + (unsigned)(ticks >> octave) - STEPS;
    return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

/* The largest number of ticks that the bucket holds. */
static uint64_t bucket_most(unsigned bucket) {
    if (bucket < STEPS)
        return bucket;
    unsigned octave = bucket / STEPS - 1;
    return ((uint64_t)(STEPS + bucket % STEPS + 1) << octave) - 1;
}

static void histogram_add(struct histogram *histogram, uint64_t ticks) {
    histogram->count[bucket_of(ticks)]++;
    if (ticks > histogram->most)
        histogram->most = ticks;
}

static void histogram_merge(struct histogram *into, const struct histogram *from) {
    for (unsigned i = 0; i < BUCKETS; i++)
        into->count[i] += from->count[i];
    if (from->most > into->most)
        into->most = from->most;
}

static uint64_t histogram_quantile(const struct histogram *histogram, double quantile) {
    uint64_t total = 0, reached = 0;
    for (unsigned i = 0; i < BUCKETS; i++)
        total += histogram->count[i];
    uint64_t wanted = (uint64_t)((double)total * quantile);
    for (unsigned i = 0; i < BUCKETS; i++) {
        reached += histogram->count[i];
        if (reached > wanted)
            return bucket_most(i) < histogram->most ? bucket_most(i) : histogram->most;
    }
    return histogram->most;
}

/* ---- clocks ---- */

static uint64_t thread_cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void stopwatch_anchor(struct stopwatch *stopwatch) {
    stopwatch->calls = 0;
    stopwatch->anchor_cpu_ns = thread_cpu_ns();
    stopwatch->anchor_ticks = ticks_end();
}

/* Ticks of a slow call without what passed since the anchor while the thread did not run. */
static uint64_t on_processor(const struct stopwatch *stopwatch, uint64_t ticks) {
    double passed_ns =
        (double)(ticks_end() - stopwatch->anchor_ticks) * stopwatch->timer->ns_per_tick;
    double ran_ns = (double)(thread_cpu_ns() - stopwatch->anchor_cpu_ns);
    double away_ticks = (passed_ns - ran_ns) / stopwatch->timer->ns_per_tick;
    if (away_ticks <= 0)
        return ticks;
    return (double)ticks > away_ticks ? ticks - (uint64_t)away_ticks : 0;
}

static void stopwatch_note(struct stopwatch *stopwatch, unsigned cpu, uint64_t ticks) {
    const struct timer *timer = stopwatch->timer;
    ticks = ticks > timer->overhead ? ticks - timer->overhead : 0;
    histogram_add(&stopwatch->histograms[cpu + 1], ticks);
    bool slow = ticks > timer->slow;
    histogram_add(&stopwatch->histograms[cpu], slow ? on_processor(stopwatch, ticks) : ticks);
    if (slow || ++stopwatch->calls == ANCHOR_CALLS)
        stopwatch_anchor(stopwatch);
}

static void timer_calibrate(struct timer *timer) {
    struct histogram *empty = load_map(sizeof *empty);
    double wall_s = clock_wall_s();
    uint64_t ticks = ticks_end();
    while (clock_wall_s() - wall_s < 0.05) {
        uint64_t begin = ticks_begin();
        uint64_t end = ticks_end();
        histogram_add(empty, end - begin);
    }
    timer->ns_per_tick = (clock_wall_s() - wall_s) * 1e9 / (double)(ticks_end() - ticks);
    timer->overhead = histogram_quantile(empty, 0.5);
    timer->slow = (uint64_t)((double)SLOW_NS / timer->ns_per_tick);
    meter_note("clock_overhead_ns", (double)timer->overhead * timer->ns_per_tick);
}

/* ---- the traffic ---- */

static void *timed_new(struct latency *latency, struct stopwatch *stopwatch, struct rng *rng) {
    size_t size = mix_draw(&latency->mix, rng);
    uint64_t begin = ticks_begin();
    void *block = malloc(size);
    uint64_t end = ticks_end();
    if (!block)
        load_fail("malloc returned NULL");
    stopwatch_note(stopwatch, MALLOC_CPU, end - begin);
    block_stamp(block, size);
    return block;
}

static void timed_free(struct stopwatch *stopwatch, void *block) {
    if (!block)
        return;
    block_check(block);
    uint64_t begin = ticks_begin();
    free(block);
    uint64_t end = ticks_end();
    stopwatch_note(stopwatch, FREE_CPU, end - begin);
}

static void *exchanged(struct latency *latency, void *block, struct rng *rng) {
    if (rng_next(rng) >= latency->exchange_below)
        return block;
    return atomic_exchange(&latency->posts[rng_below(rng, POSTS)].block, block);
}

static void latency_worker(struct worker *worker) {
    struct latency *latency = worker->shared;
    struct stopwatch *stopwatch = &latency->stopwatches[worker->index];
    void **slots = load_map(SLOTS * sizeof *slots);
    stopwatch->timer = &latency->timer;
    stopwatch_anchor(stopwatch);
    for (uint64_t i = 0; i < latency->rounds; i++) {
        void **slot = &slots[rng_below(&worker->rng, SLOTS)];
        timed_free(stopwatch, exchanged(latency, *slot, &worker->rng));
        *slot = timed_new(latency, stopwatch, &worker->rng);
    }
    for (unsigned i = 0; i < SLOTS; i++)
        timed_free(stopwatch, slots[i]);
}

/* ---- the report ---- */

static const char *const note_names[HISTOGRAMS][5] = {
    {"malloc_p50_ns", "malloc_p99_ns", "malloc_p999_ns", "malloc_p9999_ns", "malloc_max_ns"},
    {"malloc_wall_p50_ns", "malloc_wall_p99_ns", "malloc_wall_p999_ns", "malloc_wall_p9999_ns",
     "malloc_wall_max_ns"},
    {"free_p50_ns", "free_p99_ns", "free_p999_ns", "free_p9999_ns", "free_max_ns"},
    {"free_wall_p50_ns", "free_wall_p99_ns", "free_wall_p999_ns", "free_wall_p9999_ns",
     "free_wall_max_ns"},
};

static void latency_note(const struct latency *latency, unsigned threads) {
    static const double quantiles[] = {0.5, 0.99, 0.999, 0.9999, 1.0};
    struct histogram *merged = load_map(HISTOGRAMS * sizeof *merged);
    for (unsigned kind = 0; kind < HISTOGRAMS; kind++) {
        for (unsigned i = 0; i < threads; i++)
            histogram_merge(&merged[kind], &latency->stopwatches[i].histograms[kind]);
        for (unsigned q = 0; q < 5; q++)
            meter_note(note_names[kind][q],
                       (double)histogram_quantile(&merged[kind], quantiles[q]) *
                           latency->timer.ns_per_tick);
    }
}

void latency_run(const struct load_args *args) {
    static const struct band bands[] = {
        {60, 16, 512}, {25, 513, 4096}, {11, 4097, 32768}, {4, 32769, 196608}};
    struct latency *latency = load_map(sizeof *latency);
    latency->stopwatches = load_map(args->threads * sizeof *latency->stopwatches);
    mix_fill(&latency->mix, bands, 4);
    latency->rounds = load_work(args, 2000000);
    if (args->threads > 1)
        latency->exchange_below =
            (uint32_t)(4294967295.0 / 4 * args->threads / (args->threads - 1));
    timer_calibrate(&latency->timer);
    meter_operations(latency->rounds * args->threads);
    workers_run(args->threads, latency_worker, latency);
    for (unsigned i = 0; i < POSTS; i++)
        free(atomic_load(&latency->posts[i].block));
    latency_note(latency, args->threads);
}
