#include "cli/trace_write.h"

#include "base/bits.h"
#include "cli/figures.h"
#include "cli/threads.h"
#include "heap/request.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

static const struct {
    const char *name; /* in JSON */
    const char *text;
} kinds[BERTH_TRACE_KINDS] = {
    [BERTH_TRACE_CHUNK] = {"chunk", "a chunk"},
    [BERTH_TRACE_CHUNK_MORE] = {"chunk_more", "more of a chunk"},
    [BERTH_TRACE_HUGE] = {"huge", "a huge block"},
    [BERTH_TRACE_HUGE_MORE] = {"huge_more", "more of a huge block"},
    [BERTH_TRACE_LADDER_STEP] = {"limit_step", "limit"},
    [BERTH_TRACE_FAILURE] = {"failure", "FAILED"},
};

static const struct {
    const char *name; /* as in berth-metrics */
    const char *text;
} steps[BERTH_LADDER_STEPS] = {
    [BERTH_LADDER_OWN_CACHE] = {"own_cache", "the caller's cache is emptied"},
    [BERTH_LADDER_CACHES] = {"caches", "shared caches and remote frees are collected"},
    [BERTH_LADDER_PARKED] = {"parked", "caches of idle threads are emptied"},
    [BERTH_LADDER_RETURN] = {"return", "unused memory is unmapped"},
    [BERTH_LADDER_CALLBACKS] = {"callbacks", "pressure callbacks are asked"},
    [BERTH_LADDER_WAIT] = {"wait", "the request waits for memory"},
};

static int64_t clock_difference_ns(void) {
    struct timespec day;
    struct timespec since_boot;
    clock_gettime(CLOCK_REALTIME, &day);
    clock_gettime(CLOCK_MONOTONIC, &since_boot);
    return (day.tv_sec - since_boot.tv_sec) * INT64_C(1000000000) + day.tv_nsec -
           since_boot.tv_nsec;
}

int berth__trace_writer_open(struct berth__trace_writer *writer,
                             const struct berth__process *process, FILE *to, bool json) {
    memset(writer, 0, sizeof(*writer));
    writer->process = process;
    writer->to = to;
    writer->json = json;
    writer->clock_ns = clock_difference_ns();
    writer->symbols = berth__symbols_open(process->pid);
    int error = writer->symbols == NULL ? -errno : 0;
    berth__outside_open(&writer->outside, process);
    (void)berth__seen_read(&writer->seen, &process->stats, berth__outside_memory(&writer->outside));
    return error;
}

void berth__trace_writer_close(struct berth__trace_writer *writer) {
    berth__symbols_close(writer->symbols);
    berth__seen_close(&writer->seen);
    berth__outside_close(&writer->outside);
}

void berth__trace_writer_begin(struct berth__trace_writer *writer) {
    writer->renewed = false;
}

/* ---- what numbers stand for ---- */

static bool knows_pool(const struct berth__seen *seen, unsigned pool) {
    return pool < seen->pool_count && seen->pools[pool].arenas != 0;
}

/* A pool may be younger than what was read of it. */
static const char *pool_name(struct berth__trace_writer *writer, unsigned pool) {
    struct berth__seen *seen = &writer->seen;
    if (!knows_pool(seen, pool)) {
        berth__seen_close(seen);
        (void)berth__seen_read(seen, &writer->process->stats,
                               berth__outside_memory(&writer->outside));
    }
    return knows_pool(seen, pool) ? seen->pools[pool].name : "?";
}

static bool is_known(const struct berth__trace_writer *writer, const uint64_t *places,
                     unsigned depth) {
    for (unsigned i = 0; i < depth; i++) {
        if (berth__symbols_mapping(writer->symbols, places[i] - 1) == NULL) {
            return false;
        }
    }
    return true;
}

/* Places without berth's own; libraries may have been loaded since. */
static unsigned take_stack(struct berth__trace_writer *writer,
                           const struct berth__trace_record *record,
                           uint64_t places[BERTH_TRACE_DEPTH], unsigned *first) {
    for (unsigned i = 0; i < record->depth; i++) {
        places[i] = (uintptr_t)record->place[i];
    }
    if (!writer->renewed && !is_known(writer, places, record->depth)) {
        struct berth__symbols *symbols = berth__symbols_open(writer->process->pid);
        writer->renewed = true;
        if (symbols != NULL) {
            berth__symbols_close(writer->symbols);
            writer->symbols = symbols;
        }
    }
    return berth__symbols_trim(writer->symbols, places, record->depth, first);
}

/* ---- for people ---- */

static void write_time(FILE *to, uint64_t ns) {
    time_t seconds = (time_t)(ns / 1000000000);
    struct tm local = {.tm_mday = 1};
    char text[16];
    localtime_r(&seconds, &local);
    strftime(text, sizeof(text), "%H:%M:%S", &local);
    fprintf(to, "%s.%03u", text, (unsigned)(ns / 1000000 % 1000));
}

static void write_what(FILE *to, const struct berth__trace_record *record) {
    char text[3][BERTH_SIZE_TEXT];
    fputs(kinds[record->kind].text, to);
    if (record->kind == BERTH_TRACE_LADDER_STEP) {
        fprintf(to, ": %s", steps[record->step].text);
    } else if (record->kind != BERTH_TRACE_FAILURE) {
        fprintf(to, ": %s at 0x%" PRIx64, berth__short_size(text[0], record->bytes),
                record->address);
        if (record->mapped < record->bytes) {
            fprintf(to, ", %s of it from the kernel", berth__short_size(text[1], record->mapped));
        }
    }
    fprintf(to, ", to serve %s\n", berth__short_size(text[2], record->requested));
}

static void write_lines(struct berth__trace_writer *writer,
                        const struct berth__trace_record *record) {
    FILE *to = writer->to;
    char thread[BERTH_THREAD_NAME];
    uint64_t places[BERTH_TRACE_DEPTH];
    unsigned first = 0;
    unsigned depth = take_stack(writer, record, places, &first);
    write_time(to, record->time_ns + (uint64_t)writer->clock_ns);
    berth__thread_name(writer->process->pid, record->thread, thread);
    fprintf(to, "  %s/%" PRIu32 "  %s  ", *thread == '\0' ? "?" : thread, record->thread,
            pool_name(writer, record->pool));
    write_what(to, record);
    for (unsigned i = 0; i < depth; i++) {
        fputs("    ", to);
        berth__symbols_write(to, writer->symbols, places[first + i]);
        fputc('\n', to);
    }
}

/* ---- for programs ---- */

static void write_json_stack(struct berth__trace_writer *writer, const uint64_t *places,
                             unsigned depth) {
    FILE *to = writer->to;
    for (unsigned i = 0; i < depth; i++) {
        const struct berth__symbol_at *symbol = berth__symbols_find(writer->symbols, places[i]);
        fprintf(to, "%s{\"address\":\"0x%" PRIx64 "\",\"function\":", i == 0 ? "" : ",", places[i]);
        berth__json_string(to, symbol->function);
        fputs(",\"library\":", to);
        berth__json_string(to, berth__symbols_library(writer->symbols, places[i]));
        if (symbol->file != NULL) {
            fputs(",\"file\":", to);
            berth__json_string(to, symbol->file);
            fprintf(to, ",\"line\":%u", symbol->line);
        }
        fputc('}', to);
    }
}

static void write_json(struct berth__trace_writer *writer,
                       const struct berth__trace_record *record) {
    FILE *to = writer->to;
    char thread[BERTH_THREAD_NAME];
    uint64_t places[BERTH_TRACE_DEPTH];
    unsigned first = 0;
    unsigned depth = take_stack(writer, record, places, &first);
    uint64_t ns = record->time_ns + (uint64_t)writer->clock_ns;
    berth__thread_name(writer->process->pid, record->thread, thread);
    fprintf(to, "{\"time\":%" PRIu64 ".%09" PRIu64 ",\"thread\":%" PRIu32 ",\"thread_name\":",
            ns / 1000000000, ns % 1000000000, record->thread);
    berth__json_string(to, thread);
    fputs(",\"pool\":", to);
    berth__json_string(to, pool_name(writer, record->pool));
    fprintf(to, ",\"kind\":\"%s\"", kinds[record->kind].name);
    if (record->kind == BERTH_TRACE_LADDER_STEP) {
        fprintf(to, ",\"step\":\"%s\"", steps[record->step].name);
    } else if (record->kind != BERTH_TRACE_FAILURE) {
        fprintf(to, ",\"address\":\"0x%" PRIx64 "\",\"bytes\":%" PRIu64 ",\"mapped\":%" PRIu64,
                record->address, record->bytes, record->mapped);
    }
    fprintf(to, ",\"requested\":%" PRIu64 ",\"stack\":[", record->requested);
    write_json_stack(writer, places + first, depth);
    fputs("]}\n", to);
}

void berth__trace_write(void *context, const struct berth__trace_record *record) {
    struct berth__trace_writer *writer = context;
    writer->records++;
    writer->bytes += record->bytes;
    if (writer->json) {
        write_json(writer, record);
    } else {
        write_lines(writer, record);
    }
}
