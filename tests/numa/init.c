/*
 * The first process of the guest that `run` starts: runs the check in every way, says on the
 * console what came of it, and turns the machine off.
 */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct way {
    const char *name;
    const char *words[6];
    const char *variables[3];
    bool few_cpus;
};

static const struct way ways[] = {
    {.name = "the door, by getcpu", .words = {"/nodes-static"}},
    {.name = "the same on four CPUs", .words = {"/nodes-static"}, .few_cpus = true},
    {.name = "libberth, by hwloc",
     .words = {"/nodes-library"},
     .variables = {"EDGE_DOOR=other", "NODES_HWLOC=1"}},
    {.name = "berth run, which hands on hwloc's answer",
     .words = {"/berth/berth", "run", "--", "/nodes-preload"},
     .variables = {"NODES_HWLOC=1"}},
};

/* The first two of each node, as `run` numbers them. */
static void keep_few_cpus(void) {
    static const unsigned few[] = {0, 1, 4, 5};
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (size_t i = 0; i < COUNT_OF(few); i++) {
        CPU_SET(few[i], &cpus);
    }
    if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0) {
        _exit(1);
    }
}

static void become(const struct way *way) {
    char *words[COUNT_OF(way->words)] = {NULL};
    for (size_t i = 0; i + 1 < COUNT_OF(words) && way->words[i] != NULL; i++) {
        words[i] = strdup(way->words[i]);
    }
    for (size_t i = 0; way->variables[i] != NULL; i++) {
        putenv(strdup(way->variables[i]));
    }
    if (way->few_cpus) {
        keep_few_cpus();
    }
    execv(words[0], words);
    perror(words[0]);
    _exit(127);
}

static bool passes(const struct way *way) {
    printf("== %s\n", way->name);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        become(way);
    }
    int status = -1;
    while (waitpid(child, &status, 0) != child) {
    }
    if (status != 0) {
        printf("FAILED: %s: status %#x\n", way->name, (unsigned)status);
    }
    return status == 0;
}

static void mount_at(const char *type, const char *folder) {
    if (mkdir(folder, 0755) != 0 || mount("none", folder, type, 0, NULL) != 0) {
        perror(folder);
    }
}

int main(void) {
    mount_at("proc", "/proc");
    mount_at("sysfs", "/sys");
    size_t passed = 0;
    for (size_t i = 0; i < COUNT_OF(ways); i++) {
        passed += passes(&ways[i]);
    }
    printf("nodes: %zu of %zu ways passed%s\n", passed, COUNT_OF(ways),
           passed == COUNT_OF(ways) ? ", all" : "");
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    return 1; /* the kernel panics, which ends the guest, too */
}
