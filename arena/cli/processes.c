#include "cli/processes.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int is_number(const struct dirent *entry) {
    return entry->d_name[strspn(entry->d_name, "0123456789")] == '\0';
}

int berth__processes_each(void (*visit)(void *context, struct berth__process *process,
                                        enum berth__process_outcome outcome),
                          void *context) {
    struct dirent **found = NULL;
    int count = scandir("/proc", &found, is_number, versionsort);
    if (count < 0) {
        return -errno;
    }
    for (int i = 0; i < count; i++) {
        struct berth__process process;
        pid_t pid = (pid_t)strtol(found[i]->d_name, NULL, 10);
        visit(context, &process, berth__process_read(&process, pid));
        berth__process_close(&process);
        free(found[i]);
    }
    free(found);
    return 0;
}
