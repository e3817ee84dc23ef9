#include "cli/processes.h"

#include <errno.h>
#include <stdlib.h>

int berth__processes_each(void (*visit)(void *context, struct berth__process *process,
                                        enum berth__process_outcome outcome),
                          void *context) {
    size_t count;
    pid_t *pids = berth__process_list(&count);
    if (pids == NULL) {
        return -errno;
    }
    for (size_t i = 0; i < count; i++) {
        struct berth__process process;
        visit(context, &process, berth__process_read(&process, pids[i]));
        berth__process_close(&process);
    }
    free(pids);
    return 0;
}
