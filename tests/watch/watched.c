/*
 * Runs a test, and does not wait for it for ever: after its time it says where each process and
 * thread of the test stands, and ends them.
 *
 *   watched SECONDS COMMAND...
 *
 * Its exit status is the command's; 1 if that did not end in time. A command that is killed by a
 * signal kills this process in the same way.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROCESSES_MAX = 200 };

/* A process and its descendants, each behind its parent. */
static struct {
    pid_t pid[PROCESSES_MAX];
    unsigned count;
} tree;

/* A file of a process, on one line; a part of it if it is long. */
static const char *text_of(const char *path) {
    static char text[1024];
    FILE *file = fopen(path, "r");
    size_t length = file == NULL ? 0 : fread(text, 1, sizeof(text) - 1, file);
    if (file != NULL) {
        fclose(file);
    }
    for (size_t i = 0; i < length; i++) {
        text[i] = text[i] == '\0' || text[i] == '\n' ? ' ' : text[i];
    }
    text[length] = '\0';
    return text;
}

static const char *text_of_process(pid_t pid, const char *name) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return text_of(path);
}

/* Behind the name, which may have anything in it: the state, and the parent. */
static pid_t parent_of(pid_t pid) {
    const char *behind = strrchr(text_of_process(pid, "stat"), ')');
    int parent = 0;
    return behind != NULL && sscanf(behind, ") %*c %d", &parent) == 1 ? parent : 0;
}

static void add_children_of(pid_t parent) {
    DIR *folder = opendir("/proc");
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL && tree.count < PROCESSES_MAX) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (pid > 0 && parent_of(pid) == parent) {
            tree.pid[tree.count++] = pid;
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
}

static void find_tree(pid_t root) {
    tree.pid[0] = root;
    tree.count = 1;
    for (unsigned i = 0; i < tree.count; i++) {
        add_children_of(tree.pid[i]);
    }
}

/* What the kernel tells, in case that no debugger does. */
static void tell_threads(pid_t pid) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *folder = opendir(path);
    struct dirent *entry;
    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] != '.') {
            char file[512];
            snprintf(file, sizeof(file), "%s/%s/stat", path, entry->d_name);
            const char *behind = strrchr(text_of(file), ')');
            char state = behind == NULL ? '?' : behind[2];
            snprintf(file, sizeof(file), "%s/%s/wchan", path, entry->d_name);
            printf("   thread %s: state %c, in %s\n", entry->d_name, state, text_of(file));
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
}

static void tell_stacks(pid_t pid) {
    char command[512];
    snprintf(command, sizeof(command),
             "if command -v gdb >/dev/null; then"
             "   timeout 40 gdb -nx -batch -p %d -ex 'thread apply all bt 30' 2>&1 |"
             "       grep -E '^(Thread|#)' || echo 'gdb says nothing'; "
             "elif command -v eu-stack >/dev/null; then timeout 40 eu-stack -n 30 -p %d 2>&1; "
             "else echo 'neither gdb nor eu-stack is installed, to show its stacks'; fi",
             (int)pid, (int)pid);
    fflush(stdout);
    if (system(command) != 0) {
        puts("its stacks could not be shown");
    }
}

static void tell_where_it_stands(unsigned seconds) {
    printf("\n==== stopped after %u s; where it stood:\n", seconds);
    for (unsigned i = 0; i < tree.count; i++) {
        printf("== process %d, child of %d: ", (int)tree.pid[i], (int)parent_of(tree.pid[i]));
        printf("%s\n", text_of_process(tree.pid[i], "cmdline"));
        tell_threads(tree.pid[i]);
        tell_stacks(tree.pid[i]);
    }
    fflush(stdout);
}

/* Parents first, so that none starts another one. */
static void end_tree(void) {
    for (unsigned i = 0; i < tree.count; i++) {
        kill(tree.pid[i], SIGKILL);
    }
}

/* False: its time is up. */
static bool wait_for(pid_t child, unsigned seconds, const sigset_t *of_children, int *status) {
    struct timespec now, end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += (time_t)seconds;
    while (waitpid(child, status, WNOHANG) != child) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        struct timespec left = {.tv_sec = end.tv_sec - now.tv_sec};
        if (left.tv_sec <= 0) {
            return false;
        }
        (void)sigtimedwait(of_children, NULL, &left);
    }
    return true;
}

static int die_of(int signal_number) {
    const struct rlimit none = {0, 0}; /* one core is enough */
    setrlimit(RLIMIT_CORE, &none);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    return 1;
}

int main(int argc, char **argv) {
    unsigned seconds = argc > 2 ? (unsigned)atoi(argv[1]) : 0;
    if (seconds == 0) {
        fputs("usage: watched SECONDS COMMAND...\n", stderr);
        return 1;
    }
    sigset_t of_children, before;
    sigemptyset(&of_children);
    sigaddset(&of_children, SIGCHLD);
    sigprocmask(SIG_BLOCK, &of_children, &before);
    pid_t child = fork();
    if (child == 0) {
        sigprocmask(SIG_SETMASK, &before, NULL);
        execvp(argv[2], argv + 2);
        fprintf(stderr, "%s: %s\n", argv[2], strerror(errno));
        _exit(127);
    }
    int status = 0;
    if (child < 0 || !wait_for(child, seconds, &of_children, &status)) {
        find_tree(child);
        tell_where_it_stands(seconds);
        end_tree();
        return 1;
    }
    return WIFSIGNALED(status) ? die_of(WTERMSIG(status)) : WEXITSTATUS(status);
}
