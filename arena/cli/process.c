#include "cli/process.h"

#include "base/bits.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum berth__process_outcome because(struct berth__process *process,
                                           enum berth__process_outcome outcome, const char *format,
                                           ...) BERTH_PRINTF(3, 4);

static enum berth__process_outcome because(struct berth__process *process,
                                           enum berth__process_outcome outcome, const char *format,
                                           ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(process->why, sizeof(process->why), format, args);
    va_end(args);
    return outcome;
}

/* ---- files of /proc ---- */

static int open_file(pid_t pid, const char *name) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* The beginning of a file, ended by a zero byte; -1 with errno. */
static ssize_t read_file(pid_t pid, const char *name, char *text, size_t capacity) {
    int fd = open_file(pid, name);
    if (fd < 0) {
        return -1;
    }
    ssize_t length = read(fd, text, capacity - 1);
    int error = errno;
    close(fd);
    errno = error;
    text[length > 0 ? length : 0] = '\0';
    return length;
}

/* The value of a line "Name:\tvalue" of /proc/PID/status, or "". */
static const char *status_value(const char *status, const char *name) {
    const char *at = strstr(status, name);
    return at == NULL ? "" : at + strlen(name) + strspn(at + strlen(name), ":\t ");
}

/* ---- which there are ---- */

static int is_number(const struct dirent *entry) {
    return entry->d_name[strspn(entry->d_name, "0123456789")] == '\0';
}

pid_t *berth__process_list(size_t *count) {
    struct dirent **entries = NULL;
    int found = scandir("/proc", &entries, is_number, versionsort);
    pid_t *pids = found < 0 ? NULL : calloc((size_t)found + 1, sizeof(*pids));
    for (int i = 0; i < found; i++) {
        if (pids != NULL) {
            pids[i] = (pid_t)strtol(entries[i]->d_name, NULL, 10);
        }
        free(entries[i]);
    }
    free(entries);
    *count = found < 0 ? 0 : (size_t)found;
    return pids;
}

/* "PID (NAME) STATE PPID ...", where the 22nd is when it began. A name may have parentheses. */
bool berth__process_identify(pid_t pid, struct berth__identity *identity) {
    enum { FIELDS_AFTER_NAME = 20 };
    char text[1024];
    memset(identity, 0, sizeof(*identity));
    const char *name = NULL;
    const char *at = NULL;
    if (read_file(pid, "stat", text, sizeof(text)) > 0) {
        name = strchr(text, '(');
        at = strrchr(text, ')');
    }
    if (name == NULL || at == NULL || at < name) {
        return false;
    }
    size_t length = berth__min((size_t)(at - name - 1), sizeof(identity->name) - 1);
    memcpy(identity->name, name + 1, length);
    for (unsigned i = 0; i < FIELDS_AFTER_NAME && at != NULL; i++) {
        at = strchr(at + 1, ' ');
    }
    identity->start_ticks = at == NULL ? 0 : strtoull(at, NULL, 10);
    return true;
}

/* ---- who it is ---- */

static void note_command(struct berth__process *process, const char *name) {
    size_t length = strcspn(name, "\n");
    length = berth__min(length, sizeof(process->command) - 1);
    for (size_t i = 0; i < length; i++) {
        bool plain = name[i] >= ' ' && name[i] <= '~';
        process->command[i] = '?';
        if (plain) {
            process->command[i] = name[i];
        }
    }
    process->command[length] = '\0';
}

/* These have no memory; nor does a process that is about to end. */
static bool is_kernel_thread(pid_t pid, const char *status) {
    enum { KTHREADD = 2 };
    return pid == KTHREADD || strtol(status_value(status, "\nPPid"), NULL, 10) == KTHREADD;
}

static enum berth__process_outcome look_at_status(struct berth__process *process) {
    char status[2048];
    ssize_t length = read_file(process->pid, "status", status, sizeof(status));
    if (length < 0 && errno != ENOENT && errno != ESRCH) { /* descriptors, memory */
        return because(process, BERTH_PROCESS_REFUSED, "process %d cannot be read: %s",
                       (int)process->pid, strerror(errno));
    }
    if (length <= 0) {
        return because(process, BERTH_PROCESS_GONE, "there is no process %d", (int)process->pid);
    }
    note_command(process, status_value(status, "Name"));
    process->uid = (uid_t)strtoul(status_value(status, "\nUid"), NULL, 10);
    process->resident_bytes = strtoull(status_value(status, "\nVmRSS"), NULL, 10) << 10;
    char state = *status_value(status, "\nState");
    if (state == 'Z' || state == 'X') {
        return because(process, BERTH_PROCESS_GONE,
                       "process %d has ended: its memory is gone, though its parent has not taken "
                       "note",
                       (int)process->pid);
    }
    if (strstr(status, "\nVmSize") == NULL && !is_kernel_thread(process->pid, status)) {
        return because(process, BERTH_PROCESS_GONE, "process %d has ended", (int)process->pid);
    }
    if (strstr(status, "\nVmSize") == NULL) {
        return because(process, BERTH_PROCESS_STRANGER, "process %d is a thread of the kernel",
                       (int)process->pid);
    }
    return BERTH_PROCESS_READ;
}

static const char *user_name(uid_t uid, char *text, size_t capacity) {
    struct passwd entry;
    struct passwd *found = NULL;
    bool known = getpwuid_r(uid, &entry, text, capacity, &found) == 0 && found != NULL;
    return known ? entry.pw_name : "another user";
}

/* Why the kernel let us see nothing. */
static enum berth__process_outcome refused(struct berth__process *process) {
    int error = errno;
    int pid = (int)process->pid;
    if (error == ENOENT || error == ESRCH) {
        return because(process, BERTH_PROCESS_GONE, "process %d has ended", pid);
    }
    if (process->uid != geteuid() && geteuid() != 0) {
        char text[1024];
        return because(process, BERTH_PROCESS_REFUSED,
                       "process %d belongs to %s: ask as that user, or as root", pid,
                       user_name(process->uid, text, sizeof(text)));
    }
    char scope[8] = "0";
    int fd = open("/proc/sys/kernel/yama/ptrace_scope", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t length = read(fd, scope, sizeof(scope) - 1);
        scope[length > 0 ? 1 : 0] = '\0';
        close(fd);
    }
    if (process->sees_maps && *scope > '0') {
        return because(process, BERTH_PROCESS_REFUSED,
                       "kernel.yama.ptrace_scope is %s: only root may read process %d", scope, pid);
    }
    if (!process->sees_maps && geteuid() != 0) {
        return because(process, BERTH_PROCESS_REFUSED,
                       "process %d is not dumpable (it changed its rights, or wished so): only "
                       "root may read it",
                       pid);
    }
    return because(process, BERTH_PROCESS_REFUSED, "process %d: %s", pid, strerror(error));
}

/* ---- where the page is ---- */

struct mapping {
    uint64_t start, end;
};

struct maps_line {
    struct mapping mapping;
    const char *permissions, *inode, *path; /* path: "" if there is none */
};

/* The next word of a line, ended by a zero byte. */
static char *next_word(char **rest) {
    char *word = *rest + strspn(*rest, " ");
    char *end = word + strcspn(word, " ");
    *rest = *end == '\0' ? end : end + 1;
    *end = '\0';
    return word;
}

/* "START-END rw-p OFFSET DEVICE INODE   PATH" */
static struct maps_line parse(char *text) {
    struct maps_line line;
    char *rest = text;
    text[strcspn(text, "\n")] = '\0';
    char *range = next_word(&rest);
    line.mapping.start = strtoull(range, &range, 16);
    line.mapping.end = *range == '-' ? strtoull(range + 1, NULL, 16) : 0;
    line.permissions = next_word(&rest);
    (void)next_word(&rest);
    (void)next_word(&rest);
    line.inode = next_word(&rest);
    line.path = rest + strspn(rest, " ");
    return line;
}

/* Private memory that may be written, without a file, of a length that pages have. */
static bool may_be_page(const struct maps_line *line) {
    const struct mapping *mapping = &line->mapping;
    uint64_t bytes = mapping->end > mapping->start ? mapping->end - mapping->start : 0;
    return strcmp(line->permissions, "rw-p") == 0 && strcmp(line->inode, "0") == 0 &&
           *line->path == '\0' && bytes >= BERTH_STATS_BYTES_LEAST &&
           bytes <= BERTH_STATS_BYTES_MOST && berth__is_power_of_2(bytes);
}

static bool has_magic(const struct berth__process *process, const struct mapping *mapping) {
    uint64_t magic = 0;
    return pread(process->memory, &magic, sizeof(magic), (off_t)mapping->start) ==
               (ssize_t)sizeof(magic) &&
           magic == BERTH_STATS_MAGIC;
}

/* Looks through the mappings, for on_berth, too. */
static bool find_page(struct berth__process *process, struct mapping *page) {
    char text[4352];
    bool found = false;
    int fd = open_file(process->pid, "maps");
    FILE *maps = fd < 0 ? NULL : fdopen(fd, "r");
    process->on_berth = false;
    while (!found && maps != NULL && fgets(text, sizeof(text), maps) != NULL) {
        struct maps_line line = parse(text);
        process->on_berth = process->on_berth || strstr(line.path, "/libberth") != NULL;
        *page = line.mapping;
        found = may_be_page(&line) && has_magic(process, page);
    }
    if (maps != NULL) {
        fclose(maps);
    }
    return found;
}

/* What the options say last counts. */
static bool says_off(const char *options) {
    static const char *const words[] = {"false", "0", "no", "off"};
    static const char name[] = "stats_page:";
    bool off = false;
    for (const char *at = strstr(options, name); at != NULL; at = strstr(at, name)) {
        at += sizeof(name) - 1;
        off = false;
        for (unsigned i = 0; i < BERTH_ARRAY_COUNT(words); i++) {
            size_t length = strlen(words[i]);
            off = off || (strcspn(at, ",") == length && strncmp(at, words[i], length) == 0);
        }
    }
    return off;
}

static bool page_is_off(const struct berth__process *process) {
    enum { CAPACITY = 256 << 10 };
    char *environment = malloc(CAPACITY);
    bool off = false;
    ssize_t length =
        environment == NULL ? 0 : read_file(process->pid, "environ", environment, CAPACITY);
    for (const char *at = environment; length > 0 && at < environment + length;
         at += strlen(at) + 1) {
        off = off || (strncmp(at, "BERTH_CONF=", 11) == 0 && says_off(at + 11));
    }
    free(environment);
    return off;
}

static enum berth__process_outcome no_page(struct berth__process *process) {
    int pid = (int)process->pid;
    if (look_at_status(process) != BERTH_PROCESS_READ) {
        return BERTH_PROCESS_GONE; /* meanwhile */
    }
    if (process->on_berth && page_is_off(process)) {
        return because(process, BERTH_PROCESS_PAGELESS,
                       "process %d runs on berth with stats_page switched off", pid);
    }
    if (process->on_berth) {
        return because(process, BERTH_PROCESS_PAGELESS,
                       "process %d runs on berth, but has no stats page yet: it has allocated "
                       "little since it began",
                       pid);
    }
    return because(process, BERTH_PROCESS_STRANGER, "process %d does not run on berth", pid);
}

/* ---- what is on it ---- */

/* The sequence that the head has now; odd if it cannot be read. */
static uint64_t sequence_now(const struct berth__process *process, uint64_t at) {
    uint64_t sequence = 1;
    off_t where = (off_t)(at + offsetof(struct berth__stats_head, sequence));
    ssize_t got = pread(process->memory, &sequence, sizeof(sequence), where);
    return got == (ssize_t)sizeof(sequence) ? sequence : 1;
}

/* S5: true if no snapshot was written meanwhile. A page that was replaced is empty. */
static bool copy_page(struct berth__process *process, const struct mapping *page) {
    size_t bytes = (size_t)(page->end - page->start);
    uint64_t before = sequence_now(process, page->start);
    ssize_t got = pread(process->memory, process->copy, bytes, (off_t)page->start);
    return got == (ssize_t)bytes && before != 0 && before % 2 == 0 &&
           sequence_now(process, page->start) == before;
}

static enum berth__process_outcome judge(struct berth__process *process,
                                         enum berth__page_fault fault) {
    int pid = (int)process->pid;
    switch (fault) {
    case BERTH_PAGE_SOUND: return BERTH_PROCESS_READ;
    case BERTH_PAGE_OTHER_VERSION:
        return because(process, BERTH_PROCESS_BAD_PAGE,
                       "process %d has a stats page of version %" PRIu32
                       ", and this tool reads version %d",
                       pid, process->stats.version, BERTH_STATS_VERSION);
    case BERTH_PAGE_NO_MEMORY:
        return because(process, BERTH_PROCESS_BAD_PAGE, "there is no memory for a copy");
    case BERTH_PAGE_NONE:
    case BERTH_PAGE_UNFINISHED:
    case BERTH_PAGE_DAMAGED: break;
    }
    return because(process, BERTH_PROCESS_BAD_PAGE, "the stats page of process %d is damaged", pid);
}

/* A process that was stopped, or crashed, amid a snapshot: what is there is better than nothing. */
static enum berth__process_outcome read_torn(struct berth__process *process) {
    struct mapping page;
    if (!find_page(process, &page)) {
        return no_page(process);
    }
    size_t bytes = (size_t)(page.end - page.start);
    free(process->copy);
    process->copy = malloc(bytes);
    if (process->copy == NULL) {
        return judge(process, BERTH_PAGE_NO_MEMORY);
    }
    struct berth__stats_head *head = process->copy;
    process->page = page.start;
    process->torn = true;
    if (pread(process->memory, head, bytes, (off_t)page.start) != (ssize_t)bytes) {
        return judge(process, BERTH_PAGE_NONE);
    }
    head->sequence &= ~UINT64_C(1); /* as if it had been finished */
    return judge(process, berth__stats_read(&process->stats, head, bytes));
}

/* The page may be replaced by a larger one while we look, and be written while we copy. */
static enum berth__process_outcome read_page(struct berth__process *process) {
    enum { TRIES = 200, PAUSE_NS = 500000 };
    for (unsigned i = 0; i < TRIES; i++) {
        struct mapping page;
        if (!find_page(process, &page)) {
            return no_page(process);
        }
        free(process->copy);
        process->copy = malloc((size_t)(page.end - page.start));
        if (process->copy == NULL) {
            return judge(process, BERTH_PAGE_NO_MEMORY);
        }
        process->page = page.start;
        if (copy_page(process, &page)) {
            return judge(process, berth__stats_read(&process->stats, process->copy,
                                                    (size_t)(page.end - page.start)));
        }
        struct timespec pause = {.tv_nsec = PAUSE_NS};
        nanosleep(&pause, NULL);
    }
    return read_torn(process);
}

enum berth__process_outcome berth__process_read(struct berth__process *process, pid_t pid) {
    memset(process, 0, sizeof(*process));
    process->pid = pid;
    process->memory = -1;
    enum berth__process_outcome outcome = look_at_status(process);
    if (outcome != BERTH_PROCESS_READ) {
        return outcome;
    }
    int maps = open_file(pid, "maps");
    if (maps >= 0) {
        process->sees_maps = true;
        close(maps);
        process->memory = open_file(pid, "mem");
    }
    if (process->memory < 0) {
        struct mapping page;
        outcome = refused(process);
        (void)find_page(process, &page); /* for on_berth: without the memory nothing is found */
        return outcome;
    }
    outcome = read_page(process);
    if (outcome == BERTH_PROCESS_READ) {
        process->stats.snapshot.pid = (unsigned)pid;
    }
    return outcome;
}

bool berth__process_has_ended(const struct berth__process *process) {
    uint64_t magic;
    return pread(process->memory, &magic, sizeof(magic), (off_t)process->page) == 0;
}

void berth__process_close(struct berth__process *process) {
    berth__stats_free(&process->stats);
    free(process->copy);
    process->copy = NULL;
    if (process->memory >= 0) {
        close(process->memory);
    }
    process->memory = -1;
}
