/*
 * The meter: wall and processor time, page faults and resident memory of the measured part, printed
 * as one line of JSON. It allocates nothing, so that its own work does not show in the figures.
 *
 * Resident memory comes from smaps_rollup, which walks the page tables and is exact; the sampler
 * uses statm, which is cheap and may lag by some hundred KiB per processor.
 *
 * Peak memory is not here: the launcher reads it from wait4.
 */
#include "load.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A system call that no kernel has: the launcher, when it traces, starts and ends counting at it.
   Without a tracer it fails with ENOSYS and costs a fraction of a microsecond. */
enum { MARK_CALL = 0x7be5, MARK_BEGIN = 1, MARK_END = 2 };

enum { NOTES_MAX = 64, SAMPLES_MAX = 4096, REPORT_MAX = 512 * 1024 };

static struct {
    double wall_s; /* the clock at the beginning, later the difference */
    double cpu_s;
    struct rusage usage; /* at the beginning, then the difference */
    uint64_t operations;
    size_t notes;
    struct {
        const char *name;
        double value;
    } note[NOTES_MAX];
} meter;

static struct {
    pthread_t thread;
    _Atomic bool stop;
    unsigned interval_ms;
    sample_read *read;
    double origin_s;
    size_t count;
    struct sample *samples;
} sampler;

static double clock_s(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double clock_wall_s(void) {
    return clock_s(CLOCK_MONOTONIC);
}

void clock_sleep_ms(unsigned milliseconds) {
    struct timespec left = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};
    while (nanosleep(&left, &left))
        ;
}

void meter_begin(void) {
    getrusage(RUSAGE_SELF, &meter.usage);
    syscall(MARK_CALL, MARK_BEGIN);
    meter.cpu_s = clock_s(CLOCK_PROCESS_CPUTIME_ID);
    meter.wall_s = clock_wall_s();
}

/* Processor time of the sampler, which is not the load's. */
static double sampler_cpu_s(void) {
    clockid_t clock;
    bool running = sampler.read && pthread_getcpuclockid(sampler.thread, &clock) == 0;
    return running ? clock_s(clock) : 0;
}

void meter_end(void) {
    meter_end_at(clock_wall_s());
}

void meter_end_at(double wall_s) {
    meter.wall_s = wall_s - meter.wall_s;
    meter.cpu_s = clock_s(CLOCK_PROCESS_CPUTIME_ID) - meter.cpu_s - sampler_cpu_s();
    syscall(MARK_CALL, MARK_END);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    meter.usage.ru_minflt = usage.ru_minflt - meter.usage.ru_minflt;
    meter.usage.ru_majflt = usage.ru_majflt - meter.usage.ru_majflt;
    meter.usage.ru_nvcsw = usage.ru_nvcsw - meter.usage.ru_nvcsw;
    meter.usage.ru_nivcsw = usage.ru_nivcsw - meter.usage.ru_nivcsw;
}

void meter_pause(void) {
    meter.wall_s -= clock_wall_s();
    meter.cpu_s -= clock_s(CLOCK_PROCESS_CPUTIME_ID);
}

void meter_resume(void) {
    meter.wall_s += clock_wall_s();
    meter.cpu_s += clock_s(CLOCK_PROCESS_CPUTIME_ID);
}

void meter_operations(uint64_t count) {
    meter.operations = count;
}

void meter_note(const char *name, double value) {
    if (meter.notes == NOTES_MAX)
        load_fail("too many notes");
    meter.note[meter.notes].name = name;
    meter.note[meter.notes++].value = value;
}

/* The number after "\nkey:" in a file of the smaps kind. */
static uint64_t smaps_field(const char *text, const char *key) {
    const char *at = strstr(text, key);
    return at ? strtoull(at + strlen(key), NULL, 10) : 0;
}

uint64_t meter_resident_kib(void) {
    char text[4096];
    load_read_file("/proc/self/smaps_rollup", text, sizeof text);
    return smaps_field(text, "\nRss:");
}

uint64_t meter_anonymous_kib(void) {
    char text[4096];
    load_read_file("/proc/self/smaps_rollup", text, sizeof text);
    return smaps_field(text, "\nAnonymous:");
}

static void resident_read(struct sample *sample) {
    char text[256];
    load_read_file("/proc/self/statm", text, sizeof text);
    const char *second = strchr(text, ' ');
    uint64_t pages = second ? strtoull(second, NULL, 10) : 0;
    sample->resident_kib = pages * (uint64_t)sysconf(_SC_PAGESIZE) / 1024;
}

static void samples_halve(void) {
    for (size_t i = 0; i < SAMPLES_MAX / 2; i++)
        sampler.samples[i] = sampler.samples[2 * i];
    sampler.count = SAMPLES_MAX / 2;
    sampler.interval_ms *= 2;
}

void meter_sample(sample_read *read) {
    if (!sampler.samples) {
        sampler.samples = load_map_shared(SAMPLES_MAX * sizeof *sampler.samples);
        sampler.origin_s = clock_wall_s();
    }
    if (sampler.count == SAMPLES_MAX)
        samples_halve();
    struct sample *sample = &sampler.samples[sampler.count++];
    sample->at_s = clock_wall_s() - sampler.origin_s;
    read(sample);
}

static void *sampler_main(void *unused) {
    (void)unused;
    while (!atomic_load(&sampler.stop)) {
        meter_sample(sampler.read);
        clock_sleep_ms(sampler.interval_ms);
    }
    return NULL;
}

void meter_sampler_start(unsigned interval_ms, sample_read *read) {
    sampler.interval_ms = interval_ms;
    sampler.read = read ? read : resident_read;
    if (pthread_create(&sampler.thread, NULL, sampler_main, NULL))
        load_fail("pthread_create failed");
}

void meter_sampler_stop(void) {
    atomic_store(&sampler.stop, true);
    pthread_join(sampler.thread, NULL);
}

/* ---- the report ---- */

struct text {
    size_t length;
    char *bytes;
};

__attribute__((format(printf, 2, 3))) static void append(struct text *text, const char *format,
                                                         ...) {
    va_list values;
    va_start(values, format);
    int length = vsnprintf(text->bytes + text->length, REPORT_MAX - text->length, format, values);
    va_end(values);
    if (length < 0 || text->length + (size_t)length >= REPORT_MAX)
        load_fail("the report is too long");
    text->length += (size_t)length;
}

/* The file whose malloc this program calls: proves that the preload took. */
static const char *malloc_file(void) {
    Dl_info info;
    void *address = dlsym(RTLD_DEFAULT, "malloc");
    return address && dladdr(address, &info) && info.dli_fname ? info.dli_fname : "";
}

static void append_memory(struct text *text) {
    char rollup[4096];
    load_read_file("/proc/self/smaps_rollup", rollup, sizeof rollup);
    append(text, ", \"end_kib\": %lu, \"end_lazy_free_kib\": %lu, \"end_huge_kib\": %lu",
           smaps_field(rollup, "\nRss:"), smaps_field(rollup, "\nLazyFree:"),
           smaps_field(rollup, "\nAnonHugePages:"));
}

static void append_samples(struct text *text) {
    append(text, ", \"samples\": [");
    for (size_t i = 0; i < sampler.count; i++) {
        const struct sample *sample = &sampler.samples[i];
        append(text, "%s[%.3f, %lu", i ? ", " : "", sample->at_s, sample->resident_kib);
        if (sample->live_kib)
            append(text, ", %lu", sample->live_kib);
        append(text, "]");
    }
    append(text, "]");
}

void meter_report(const char *load_name, const struct load_args *args) {
    struct text text = {0, load_map(REPORT_MAX)};
    append(&text, "{\"load\": \"%s\", \"threads\": %u, \"operations\": %lu", load_name,
           args->threads, meter.operations);
    append(&text, ", \"wall_s\": %.6f, \"cpu_s\": %.6f", meter.wall_s, meter.cpu_s);
    append(&text, ", \"faults\": %ld, \"switches\": %ld, \"preemptions\": %ld",
           meter.usage.ru_minflt + meter.usage.ru_majflt, meter.usage.ru_nvcsw,
           meter.usage.ru_nivcsw);
    append_memory(&text);
    append(&text, ", \"malloc\": \"%s\", \"notes\": {", malloc_file());
    for (size_t i = 0; i < meter.notes; i++)
        append(&text, "%s\"%s\": %.3f", i ? ", " : "", meter.note[i].name, meter.note[i].value);
    append(&text, "}");
    if (sampler.count)
        append_samples(&text);
    append(&text, "}\n");
    for (size_t at = 0; at < text.length;) {
        ssize_t written = write(STDOUT_FILENO, text.bytes + at, text.length - at);
        if (written <= 0)
            load_fail("the report could not be written");
        at += (size_t)written;
    }
}
