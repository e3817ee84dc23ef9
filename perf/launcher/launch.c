/*
 * The launcher: runs one command with an allocator preloaded and writes what the kernel says of it
 * (times, peak resident memory, faults, and on request system calls) as one line of JSON.
 *
 *     launch [-o FILE] [-t SECONDS] [-p PRELOAD] [-s] -- COMMAND [ARGUMENT...]
 *
 * Why not straight from Python: a child's peak memory (ru_maxrss) begins with that of the process
 * image it was before exec, so that below an interpreter nothing smaller than the interpreter can
 * be seen: 65 MB for a program of 1.8 MB, when the interpreter holds 50 MB. This program is smaller
 * than anything it starts.
 *
 * It is no supervisor: one command, one report. The command runs in a process group of its own,
 * ends with the launcher, and is killed when its time is over.
 */
#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct order {
    const char *out; /* NULL: standard output */
    const char *preload;
    unsigned seconds_max; /* 0: no bound */
    bool count_calls;
    char **command;
};

static volatile sig_atomic_t child;
static volatile sig_atomic_t timed_out;

static void on_signal(int signal) {
    if (signal == SIGALRM)
        timed_out = 1;
    if (child > 0)
        kill(-(pid_t)child, signal == SIGALRM ? SIGKILL : signal);
}

static double wall_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double seconds(struct timeval time) {
    return (double)time.tv_sec + (double)time.tv_usec * 1e-6;
}

static _Noreturn void usage(void) {
    fputs("usage: launch [-o FILE] [-t SECONDS] [-p PRELOAD] [-s] -- COMMAND [ARGUMENT...]\n",
          stderr);
    exit(125);
}

static struct order order_read(int argc, char **argv) {
    struct order order = {0};
    int option;
    while ((option = getopt(argc, argv, "+o:t:p:s")) != -1) {
        switch (option) {
        case 'o': order.out = optarg; break;
        case 'p': order.preload = optarg; break;
        case 's': order.count_calls = true; break;
        case 't': order.seconds_max = (unsigned)strtoul(optarg, NULL, 10); break;
        default: usage();
        }
    }
    if (optind == argc)
        usage();
    order.command = argv + optind;
    return order;
}

static _Noreturn void child_main(const struct order *order, const sigset_t *mask) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    if (order->preload)
        setenv("LD_PRELOAD", order->preload, 1);
    if (order->count_calls)
        calls_trace_me();
    execvp(order->command[0], order->command);
    fprintf(stderr, "launch: %s: %s\n", order->command[0], strerror(errno));
    _exit(127);
}

/* Starts the command with the signals blocked, so that none comes before its number is known. */
static void start(const struct order *order) {
    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t pid = fork();
    if (pid == 0)
        child_main(order, &before);
    if (pid < 0) {
        perror("launch: fork");
        exit(126);
    }
    setpgid(pid, pid);
    child = pid;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGALRM, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    alarm(order->seconds_max);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static void report(FILE *out, double wall, int status, const struct rusage *usage,
                   const struct calls *calls) {
    fprintf(out, "{\"process_wall_s\": %.6f, \"process_cpu_s\": %.6f", wall,
            seconds(usage->ru_utime) + seconds(usage->ru_stime));
    fprintf(out, ", \"process_system_s\": %.6f, \"peak_kib\": %ld", seconds(usage->ru_stime),
            usage->ru_maxrss);
    fprintf(out, ", \"process_faults\": %ld", usage->ru_minflt + usage->ru_majflt);
    fprintf(out, ", \"exit\": %d, \"signal\": %d, \"timed_out\": %s",
            WIFEXITED(status) ? WEXITSTATUS(status) : -1,
            WIFSIGNALED(status) ? WTERMSIG(status) : 0, timed_out ? "true" : "false");
    if (calls)
        calls_print(out, calls);
    fputs("}\n", out);
}

int main(int argc, char **argv) {
    struct order order = order_read(argc, argv);
    FILE *out = order.out ? fopen(order.out, "we") : stdout;
    if (!out) {
        perror("launch: the output file");
        return 126;
    }
    double began = wall_s();
    start(&order);
    struct calls calls = {0};
    struct rusage usage;
    int status = 0;
    if (order.count_calls)
        calls_count((pid_t)child, &calls, &status, &usage);
    else
        while (wait4((pid_t)child, &status, 0, &usage) < 0 && errno == EINTR)
            ;
    report(out, wall_s() - began, status, &usage, order.count_calls ? &calls : NULL);
    return fclose(out) ? 126 : 0;
}
