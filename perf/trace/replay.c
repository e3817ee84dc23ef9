/*
 * The replay: makes the calls of a trace on whatever malloc this process has, and prints what came
 * of it as one line of JSON.
 *
 *     replay TRACE [touch=ends|pages|all] [speed=PERCENT] [watch]
 *
 * Threads are started and end where they did in the record. Its own memory is mapped and shared, so
 * that what is anonymous is the allocator's, less the data of this program and the C library, which
 * is subtracted. Blocks that are live at the end stay so.
 *
 * `touch`: of each block write both ends, a byte in each page besides (the rule), or everything.
 * `speed`: 100 keeps to the record's own times; by default it does not wait for them.
 * `watch`: looks at the memory as it goes on, which takes time: a run that is watched is not timed.
 */
#include "../workloads/load.h"
#include "player.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STACK_BYTES = 128 * 1024, SAMPLE_MS = 20, SMAPS_MAX = 1 << 20 };

/* Below this part of the peak, live memory is too little to set resident memory against. */
enum { WORST_LIVE_PART = 4 };

static struct crew crew;
static struct trace trace;
static char *stacks;
static bool watching;
static _Atomic bool over; /* threads that outlive the record may end */

static struct {
    uint64_t own_kib; /* this program's, whatever the allocator */
    uint64_t at_peak_kib;
    uint64_t live_at_peak_kib;
    _Atomic uint64_t most_kib;
    double worst;
} memory;

/* ---- memory ---- */

/* Whether a line of smaps begins a mapping of this program, the C library, or the stack. */
static bool is_own(const char *line, const char *self) {
    const char *path = strpbrk(line, "/[");
    if (!path)
        return false;
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    return strcmp(path, self) == 0 || strcmp(path, "[stack]") == 0 ||
           strncmp(name, "libc.so", 7) == 0 || strncmp(name, "ld-", 3) == 0;
}

static uint64_t own_sum_kib(char *smaps, const char *self) {
    uint64_t kib = 0;
    bool own = false;
    char *rest = NULL;
    for (char *line = strtok_r(smaps, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strchr("0123456789abcdef", *line))
            own = is_own(line, self);
        else if (own && strncmp(line, "Anonymous:", 10) == 0)
            kib += strtoull(line + 10, NULL, 10);
    }
    return kib;
}

/* Before anything is played: what this program has itself, which is the same for all. */
static uint64_t own_kib(void) {
    static char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    self[length > 0 ? length : 0] = 0;
    char *smaps = load_map_shared(SMAPS_MAX);
    load_read_file("/proc/self/smaps", smaps, SMAPS_MAX);
    return own_sum_kib(smaps, self);
}

static uint64_t resident_kib(void) {
    uint64_t kib = meter_anonymous_kib();
    return kib > memory.own_kib ? kib - memory.own_kib : 0;
}

static uint64_t live_kib(void) {
    int64_t bytes = 0;
    for (uint32_t i = 0; i < crew.count; i++)
        bytes += atomic_load_explicit(&crew.players[i].live_bytes, memory_order_relaxed);
    return bytes > 0 ? (uint64_t)bytes / 1024 : 0;
}

static void most_raise(uint64_t kib) {
    uint64_t most = atomic_load(&memory.most_kib);
    while (kib > most && !atomic_compare_exchange_weak(&memory.most_kib, &most, kib))
        ;
}

static void sample_take(struct sample *sample) {
    sample->live_kib = live_kib();
    sample->resident_kib = resident_kib();
    most_raise(sample->resident_kib);
    if (sample->live_kib * 1024 * WORST_LIVE_PART < trace.header->live_peak_bytes)
        return;
    double over_live = (double)sample->resident_kib / (double)(sample->live_kib + 1);
    if (over_live > memory.worst)
        memory.worst = over_live;
}

/* The time of the samples that are taken at marks: the record's. */
static double mark_s;

static void sample_at_mark(struct sample *sample) {
    sample_take(sample);
    sample->at_s = mark_s;
}

/* The thread that comes into a window first looks. */
static void mark(uint32_t window, uint32_t time_ms) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static uint32_t next;
    pthread_mutex_lock(&lock);
    if (window >= next) {
        next = window + 1;
        mark_s = time_ms / 1000.0;
        meter_sample(sample_at_mark);
    }
    pthread_mutex_unlock(&lock);
}

/* ---- threads ---- */

/* The thread that the most live bytes were reached by stops there to look. */
static void play_all(struct player *player) {
    if (watching && player->number == trace.header->peak_thread) {
        player_run(player, trace.header->peak_position);
        memory.live_at_peak_kib = live_kib();
        memory.at_peak_kib = resident_kib();
        most_raise(memory.at_peak_kib);
    }
    player_run(player, player->count);
    atomic_store(&player->ended_s, clock_wall_s());
}

static void *thread_main(void *argument) {
    struct player *player = argument;
    play_all(player);
    while (!player->ends && !atomic_load(&over))
        clock_sleep_ms(1);
    return NULL;
}

/* The stack is mapped here, too: its pages are not the allocator's. */
static void thread_start(struct crew *members, uint32_t number) {
    struct player *player = &members->players[number];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stacks + (size_t)number * STACK_BYTES, STACK_BYTES);
    if (player->started || pthread_create(&player->thread, &attributes, thread_main, player))
        load_fail("a thread could not be started");
    player->started = true;
    pthread_attr_destroy(&attributes);
}

static void crew_make(void) {
    crew.count = trace.header->threads;
    crew.players = load_map_shared(crew.count * sizeof *crew.players);
    crew.slots = load_map_shared(trace.header->slots * sizeof *crew.slots + 1);
    memset(crew.slots, 0, trace.header->slots * sizeof *crew.slots);
    stacks = load_map_shared((size_t)crew.count * STACK_BYTES);
    crew.start = thread_start;
    for (uint32_t i = 0; i < crew.count; i++) {
        struct player *player = &crew.players[i];
        player->crew = &crew;
        player->number = i;
        player->words = trace.words + trace.threads[i].first;
        player->count = trace.threads[i].words;
        player->ends = trace.threads[i].ended;
    }
    crew.players[0].started = true;
}

/* Returns when the last one was through, by the clock. */
static double crew_play(void) {
    double last_s = 0;
    crew.began_s = clock_wall_s();
    play_all(&crew.players[0]);
    for (uint32_t i = 0; i < crew.count; i++) {
        struct player *player = &crew.players[i];
        player_await(player, player->count);
        while (player->started && atomic_load(&player->ended_s) == 0)
            sched_yield();
        if (player->ended_s > last_s)
            last_s = player->ended_s;
    }
    return last_s;
}

static void crew_end(void) {
    atomic_store(&over, true);
    for (uint32_t i = 1; i < crew.count; i++)
        if (crew.players[i].started)
            pthread_join(crew.players[i].thread, NULL);
}

/* ---- */

static bool option_fits(const char *word) {
    static const char *const kinds[] = {"touch=ends", "touch=pages", "touch=all"};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(word, kinds[i]) == 0) {
            crew.touch = (enum touch)i;
            return true;
        }
    if (strcmp(word, "watch") == 0) {
        watching = true;
        return true;
    }
    char *end = NULL;
    if (strncmp(word, "speed=", 6) == 0)
        crew.speed = strtod(word + 6, &end) / 100;
    return end && !*end && crew.speed >= 0;
}

static void options_read(int argc, char **argv) {
    crew.touch = TOUCH_PAGES;
    for (int i = 2; i < argc; i++)
        if (!option_fits(argv[i]))
            argc = 0;
    if (argc < 2)
        load_fail("usage: replay TRACE [touch=ends|pages|all] [speed=PERCENT] [watch]");
}

static void note_waits(void) {
    double waits = 0, seconds = 0;
    for (uint32_t i = 0; i < crew.count; i++) {
        waits += (double)crew.players[i].waits;
        seconds += (double)crew.players[i].waited_ns * 1e-9;
    }
    meter_note("waits", waits);
    meter_note("waited_s", seconds);
}

static void note_memory(const struct sample *end) {
    meter_note("own_kib", (double)memory.own_kib);
    meter_note("live_peak_kib", (double)memory.live_at_peak_kib);
    meter_note("resident_at_peak_kib", (double)memory.at_peak_kib);
    meter_note("over_live_at_peak",
               (double)memory.at_peak_kib / ((double)memory.live_at_peak_kib + 1));
    meter_note("resident_most_kib", (double)atomic_load(&memory.most_kib));
    meter_note("live_end_kib", (double)end->live_kib);
    meter_note("resident_end_kib", (double)end->resident_kib);
    meter_note("over_live_at_end", (double)end->resident_kib / ((double)end->live_kib + 1));
    meter_note("over_live_worst", memory.worst);
}

static uint64_t calls(void) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < TRACE_CALLS; i++)
        sum += trace.header->calls[i];
    return sum;
}

/* Looks at marks, which are where the calls are, or by the clock if that is the record's. */
static void watch_begin(void) {
    if (watching && crew.speed > 0)
        meter_sampler_start(SAMPLE_MS, sample_take);
    else if (watching)
        crew.mark = mark;
}

static void watch_end(void) {
    if (!watching)
        return;
    if (crew.speed > 0)
        meter_sampler_stop();
    struct sample end;
    sample_take(&end);
    note_memory(&end);
    mark_s = (double)trace.header->duration_ms / 1000;
    if (crew.mark)
        meter_sample(sample_at_mark);
}

int main(int argc, char **argv) {
    options_read(argc, argv);
    memory.own_kib = own_kib();
    trace = trace_open(argv[1]);
    crew_make();
    meter_operations(calls());
    watch_begin();
    meter_begin();
    meter_end_at(crew_play());
    watch_end();
    note_waits();
    crew_end();
    meter_report("replay", &(struct load_args){.threads = crew.count});
    return 0;
}
