/*
 * What the loads share: random numbers, size mixes, threads that start together, and the meter.
 *
 * A load is one allocation behaviour with a fixed amount of work. It calls malloc, calloc, realloc
 * and free and nothing else of an allocator, so that any allocator can be preloaded under it. What
 * a load needs for itself (slots, queues, histograms) is mapped, never allocated, so that it costs
 * each allocator the same.
 *
 * Not here: which allocators, how many rounds, statistics. That is bench.py's business.
 */
#ifndef BERTH_PERF_LOAD_H
#define BERTH_PERF_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { CACHE_LINE = 64, PAGE = 4096 };

/* What the command line says. Each load uses what concerns it. */
struct load_args {
    unsigned threads;
    unsigned work_percent; /* of the full amount of work */
    unsigned producers;
    unsigned consumers;
    unsigned count;   /* blocks of a burst, threads of the idle load */
    unsigned mib;     /* live memory, where the load lets it be chosen */
    unsigned size;    /* one size in bytes; 0: the load's own mix */
    unsigned seconds; /* how long light traffic goes on */
};

struct load {
    const char *name;
    void (*run)(const struct load_args *args);
};

/* The loads, one file each; the first line of the file says what it punishes. */
void control_run(const struct load_args *args);
void pair_run(const struct load_args *args);
void burst_run(const struct load_args *args);
void window_run(const struct load_args *args);
void server_run(const struct load_args *args);
void buffers_run(const struct load_args *args);
void exchange_run(const struct load_args *args);
void churn_run(const struct load_args *args);
void sharing_active_run(const struct load_args *args);
void sharing_passive_run(const struct load_args *args);
void idle_run(const struct load_args *args);
void shrink_run(const struct load_args *args);
void latency_run(const struct load_args *args);
void websocket_run(const struct load_args *args);
void large_run(const struct load_args *args);
void grow_run(const struct load_args *args);
void zeroed_run(const struct load_args *args);

/* `full` operations scaled to the amount of work that was asked for, at least 1. */
uint64_t load_work(const struct load_args *args, uint64_t full);

/* Prints one line and ends the process with status 2. */
_Noreturn void load_fail(const char *what);

/* Zeroed memory that comes straight from the kernel; never returned. */
void *load_map(size_t bytes);

/* The same in pages that do not count as anonymous memory of the process. */
void *load_map_shared(size_t bytes);

/* A small file's text, ended by a zero and cut off if it is longer; empty if there is none. */
void load_read_file(const char *path, char *text, size_t size);

/* ---- random numbers: a 64-bit linear congruential generator, of which the high half is used
   (Knuth, The Art of Computer Programming, volume 2, section 3.3.4) ---- */

struct rng {
    uint64_t state;
};

struct rng rng_seeded(uint64_t seed);

static inline uint32_t rng_next(struct rng *rng) {
    rng->state = rng->state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng->state >> 32);
}

/* A number in [0, bound), by multiplication instead of division. */
static inline uint32_t rng_below(struct rng *rng, uint32_t bound) {
    return (uint32_t)(((uint64_t)rng_next(rng) * bound) >> 32);
}

/* ---- size mixes: a table of drawn sizes, so that a draw is one load from the first cache ---- */

enum { MIX_DRAWS_LOG2 = 12, MIX_DRAWS = 1 << MIX_DRAWS_LOG2 };

/* `weight` of sizes in [least, most], spread evenly. */
struct band {
    uint32_t weight;
    uint32_t least;
    uint32_t most;
};

struct mix {
    uint32_t sizes[MIX_DRAWS];
};

/* Fills the mix in proportion to the weights; the same in each process. */
void mix_fill(struct mix *mix, const struct band *bands, size_t count);

/* Mean size in bytes. */
double mix_mean(const struct mix *mix);

static inline size_t mix_draw(const struct mix *mix, struct rng *rng) {
    return mix->sizes[rng_next(rng) >> (32 - MIX_DRAWS_LOG2)];
}

/* ---- blocks ---- */

/* Allocates, or ends the process. */
static inline void *block_new(size_t size) {
    void *block = malloc(size);
    if (!block)
        load_fail("malloc returned NULL");
    return block;
}

/* Writes the first word of each page of the block, so that all of it is resident. */
static inline void block_touch(void *block, size_t size) {
    volatile char *bytes = block;
    for (size_t at = 0; at < size; at += PAGE)
        bytes[at] = 1;
}

/* Writes the block's own address into it: two blocks at one place give themselves away. */
static inline void block_stamp(void *block, size_t size) {
    block_touch(block, size);
    *(void *volatile *)block = block;
}

static inline void block_check(const void *block) {
    if (*(void *const volatile *)block != block)
        load_fail("a block was overwritten");
}

/* ---- threads ---- */

struct worker {
    _Alignas(2 * CACHE_LINE) unsigned index;
    unsigned count;
    struct rng rng;
    void *shared;
};

typedef void worker_function(struct worker *worker);

/* Runs `count` workers between meter_begin and meter_end, started together. A single worker runs on
   the main thread: a program without threads, as the classic single-threaded benchmarks are. */
void workers_run(unsigned count, worker_function *function, void *shared);

/* ---- the meter: one per process, for the main thread except where it says any ---- */

/* Around the measured part. A tracer counts system calls between the two. */
void meter_begin(void);
void meter_end(void);

/* The same, for a part that was over at this time of clock_wall_s. */
void meter_end_at(double wall_s);

/* Around what lies between the two but is not to be timed. */
void meter_pause(void);
void meter_resume(void);

/* How many operations (calls of malloc, mostly) the measured part makes. */
void meter_operations(uint64_t count);

/* One more figure in the report. The name is kept, not copied. */
void meter_note(const char *name, double value);

/* Memory that is resident now, exactly, in KiB; 0 if the kernel does not say. Any thread. */
uint64_t meter_resident_kib(void);

/* The same, less what is of files or shared. Any thread. */
uint64_t meter_anonymous_kib(void);

struct sample {
    double at_s;
    uint64_t resident_kib;
    uint64_t live_kib; /* where a load says what is live */
};

typedef void sample_read(struct sample *sample);

/* Starts and stops a thread that records the resident memory each interval, or whatever `read` puts
   into a sample. Where there is no room for all samples every second one is kept. */
void meter_sampler_start(unsigned interval_ms, sample_read *read);
void meter_sampler_stop(void);

/* Takes a sample without such a thread. One thread at a time. */
void meter_sample(sample_read *read);

/* Prints all of it as one line of JSON. */
void meter_report(const char *load_name, const struct load_args *args);

/* Seconds on the monotonic clock. Any thread. */
double clock_wall_s(void);

/* Sleeps. Any thread. */
void clock_sleep_ms(unsigned milliseconds);

#endif
