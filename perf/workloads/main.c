/*
 * The loads as one program: `loads NAME [threads=N] [work=PERCENT] ...` runs one of them and prints
 * its figures as one line of JSON; `loads list` names them.
 */
#include "load.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct load loads[] = {
    {"control", control_run},
    {"pair", pair_run},
    {"burst", burst_run},
    {"window", window_run},
    {"server", server_run},
    {"buffers", buffers_run},
    {"exchange", exchange_run},
    {"churn", churn_run},
    {"sharing-active", sharing_active_run},
    {"sharing-passive", sharing_passive_run},
    {"idle", idle_run},
    {"shrink", shrink_run},
    {"latency", latency_run},
    {"websocket", websocket_run},
    {"large", large_run},
    {"grow", grow_run},
    {"zeroed", zeroed_run},
};

enum { LOADS = sizeof loads / sizeof loads[0] };

struct option {
    const char *name;
    unsigned *value;
};

static void option_set(const struct option *options, size_t count, const char *word) {
    const char *equals = strchr(word, '=');
    for (size_t i = 0; equals && i < count; i++) {
        size_t length = strlen(options[i].name);
        if (length != (size_t)(equals - word) || memcmp(options[i].name, word, length) != 0)
            continue;
        char *end;
        unsigned long value = strtoul(equals + 1, &end, 10);
        if (!equals[1] || *end || value > 1u << 30)
            break;
        *options[i].value = (unsigned)value;
        return;
    }
    load_fail("usage: loads NAME|list [threads=N] [work=PERCENT] [producers=N] [consumers=N] "
              "[count=N] [mib=N] [size=BYTES] [seconds=N]");
}

static void args_read(struct load_args *args, int count, char **words) {
    const struct option options[] = {
        {"threads", &args->threads},     {"work", &args->work_percent},
        {"producers", &args->producers}, {"consumers", &args->consumers},
        {"count", &args->count},         {"mib", &args->mib},
        {"size", &args->size},           {"seconds", &args->seconds},
    };
    for (int i = 0; i < count; i++)
        option_set(options, sizeof options / sizeof options[0], words[i]);
    if (!args->threads || !args->work_percent || !args->producers || !args->consumers)
        load_fail("threads, work, producers and consumers are at least 1");
}

int main(int argc, char **argv) {
    struct load_args args = {.work_percent = 100,
                             .threads = (unsigned)sysconf(_SC_NPROCESSORS_ONLN),
                             .producers = 1,
                             .consumers = 1};
    const char *name = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < LOADS; i++) {
        if (strcmp(name, "list") == 0)
            puts(loads[i].name);
        if (strcmp(name, loads[i].name) != 0)
            continue;
        args_read(&args, argc - 2, argv + 2);
        loads[i].run(&args);
        meter_report(name, &args);
        return 0;
    }
    if (strcmp(name, "list") == 0)
        return 0;
    load_fail("no such load; `loads list` names them");
}
