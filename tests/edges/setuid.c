/*
 * If this fails, who starts a setuid program can give it options by its environment, or the door
 * does not work there.
 */
#include "edge.h"

#include <limits.h>
#include <sys/auxv.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

enum { NOBODY = 65534 };

/* Makes a copy of this program that runs with the rights of another user. */
static void copy_with_rights(const char *path) {
    struct stat info;
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0700);
    CHECK(from >= 0 && to >= 0 && fstat(from, &info) == 0);
    for (off_t left = info.st_size; left > 0;) {
        ssize_t done = sendfile(to, from, NULL, (size_t)left);
        CHECK(done > 0);
        left -= done;
    }
    CHECK(fchown(to, NOBODY, NOBODY) == 0 && fchmod(to, 04755) == 0);
    close(from);
    close(to);
}

static int run_with_rights(const char *conf, struct edge_outcome *outcome) {
    char path[PATH_MAX];
    char name[] = "edge";
    char argument[] = "privileged";
    char *const arguments[] = {name, argument, NULL};
    CHECK(getcwd(path, sizeof(path) - 32) != NULL);
    snprintf(path + strlen(path), 32, "/edge_setuid.%d", (int)getpid());
    CHECK(setenv("BERTH_CONF", conf, 1) == 0);
    copy_with_rights(path);
    edge_run(path, arguments, environ, outcome);
    return unlink(path);
}

static void expect_options_ignored(const char *conf) {
    struct edge_outcome outcome;
    CHECK(run_with_rights(conf, &outcome) == 0);
    if (WIFEXITED(outcome.status) && WEXITSTATUS(outcome.status) == EDGE_SKIP) {
        edge_skip("programs get no other user's rights in this folder");
    }
    if (!edge_passed(&outcome) || outcome.length != 0) {
        FAIL("\"%s\": status %#x: %s", conf, (unsigned)outcome.status, outcome.text);
    }
}

/* With its limit, the allocation would fail; with the bad option, the process would be stopped; and
 * the metrics would be seen. */
static int privileged(void) {
    if (getauxval(AT_SECURE) == 0) {
        return EDGE_SKIP;
    }
    edge_check_door();
    char *block = malloc(32u << 20);
    CHECK(block != NULL);
    memset(block, 1, 32u << 20);
    free(block);
    return EDGE_PASS;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "privileged") == 0) {
        return privileged();
    }
    if (geteuid() != 0) {
        edge_skip("needs root, to make a setuid program");
    }
    edge_check_door();
    expect_options_ignored("limit:8M");
    expect_options_ignored("nonsense:1");
    expect_options_ignored("abort_conf:true,nonsense:1");
    expect_options_ignored("stats_print:true,maintenance:true");
    return EDGE_PASS;
}
