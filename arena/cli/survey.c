#include "cli/survey.h"

#include "base/bits.h"
#include "heap/engine.h"
#include "os/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MAX_S = 16 };
#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)

bool berth__survey_shows(const struct berth__surveyed *surveyed) {
    const struct berth__process *process = &surveyed->process;
    switch (surveyed->outcome) {
    case BERTH_PROCESS_READ:
    case BERTH_PROCESS_PAGELESS:
    case BERTH_PROCESS_BAD_PAGE: return true;
    case BERTH_PROCESS_REFUSED:
        /* What belongs to others is theirs; where the mappings can be seen, they tell. */
        return (process->uid == geteuid() || geteuid() == 0) &&
               (process->on_berth || !process->sees_maps);
    case BERTH_PROCESS_GONE:
    case BERTH_PROCESS_STRANGER: break;
    }
    return false;
}

const struct berth__surveyed *berth__survey_find(const struct berth__survey *survey, pid_t pid) {
    for (size_t i = 0; i < survey->count; i++) {
        if (survey->all[i].pid == pid) {
            return berth__survey_shows(&survey->all[i]) ? &survey->all[i] : NULL;
        }
    }
    return NULL;
}

/* ---- one process ---- */

static void forget(struct berth__surveyed *surveyed) {
    berth__process_close(&surveyed->process);
    free(surveyed->history);
}

/* What is known of a process, unless another one has its number by now. */
static bool is_known(const struct berth__surveyed *known, const struct berth__identity *identity) {
    bool same_name = strcmp(known->identity.name, identity->name) == 0;
    return known->identity.start_ticks == identity->start_ticks &&
           (same_name || known->outcome == BERTH_PROCESS_READ);
}

static bool may_wait(const struct berth__surveyed *known, uint64_t now_ns) {
    return !berth__survey_shows(known) && now_ns < known->look_again_ns;
}

/* Cuts off what no process of ours has; the memory that the figures take. */
static size_t bound(struct berth__stats *stats) {
    size_t bytes = stats->page_bytes;
    for (unsigned level = 0; level < BERTH_LEVEL_COUNT; level++) {
        size_t most = level == BERTH_LEVEL_POOL ? BERTH_POOLS_MAX : BERTH_SURVEY_ROWS_MAX;
        size_t *count = &stats->snapshot.count[level];
        bytes += *count * sizeof(struct berth__row);
        stats->rows_left_out += *count > most ? *count - most : 0;
        *count = berth__min(*count, most);
    }
    return bytes;
}

static void look_at(struct berth__survey *survey, struct berth__surveyed *surveyed,
                    uint64_t now_ns) {
    struct berth__process *process = &surveyed->process;
    surveyed->outcome = berth__process_read(process, surveyed->pid);
    if (surveyed->outcome == BERTH_PROCESS_READ) {
        survey->bytes += bound(&process->stats);
        if (survey->bytes > BERTH_SURVEY_BYTES_MAX) {
            surveyed->outcome = BERTH_PROCESS_BAD_PAGE;
            snprintf(process->why, sizeof(process->why),
                     "there is no room for its figures: those of others take up %d MiB",
                     BERTH_SURVEY_BYTES_MAX >> 20);
        }
    }
    if (surveyed->outcome != BERTH_PROCESS_READ) {
        berth__process_close(process); /* its name and the reason stay */
    } else {
        close(process->memory); /* not to run out of descriptors */
        process->memory = -1;
    }
    if (berth__survey_shows(surveyed)) {
        surveyed->patience_s = 0;
        return;
    }
    unsigned longer_s = surveyed->patience_s == 0 ? 1 : surveyed->patience_s * 2;
    surveyed->patience_s = (unsigned)berth__min(longer_s, PATIENCE_MAX_S);
    surveyed->look_again_ns = now_ns + surveyed->patience_s * NS_PER_S;
}

/* Moves what is known of the process to its place in the new survey, and brings it up to date.
 * False: there is no such process. */
static bool renew(struct berth__survey *survey, struct berth__surveyed *renewed,
                  struct berth__surveyed *known, pid_t pid, uint64_t now_ns) {
    struct berth__identity identity;
    memset(renewed, 0, sizeof(*renewed));
    if (!berth__process_identify(pid, &identity)) {
        return false;
    }
    if (known != NULL && is_known(known, &identity)) {
        *renewed = *known;
        known->pid = 0;
        if (may_wait(renewed, now_ns)) {
            return true;
        }
        berth__process_close(&renewed->process);
    }
    renewed->pid = pid;
    renewed->identity = identity;
    look_at(survey, renewed, now_ns);
    return true;
}

/* ---- all of them ---- */

static void take_history(struct berth__survey *survey, uint64_t now_ns) {
    struct timespec now;
    size_t histories = 0;
    if (survey->history_ns != 0 &&
        now_ns - survey->history_ns < BERTH_HISTORY_PAUSE_MS * NS_PER_MS * 9 / 10) {
        return;
    }
    survey->history_ns = now_ns;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t now_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
    for (size_t i = 0; i < survey->count; i++) {
        histories += survey->all[i].history != NULL;
    }
    for (size_t i = 0; i < survey->count; i++) {
        struct berth__surveyed *surveyed = &survey->all[i];
        if (surveyed->outcome != BERTH_PROCESS_READ) {
            continue;
        }
        if (surveyed->history == NULL && histories < BERTH_HISTORIES_MAX) {
            surveyed->history = berth__history_make(BERTH_HISTORY_POINTS);
            histories += surveyed->history != NULL;
        }
        if (surveyed->history != NULL) {
            berth__history_add(surveyed->history, &surveyed->process.stats,
                               surveyed->process.resident_bytes, now_ms);
        }
    }
}

int berth__survey_take(struct berth__survey *survey, unsigned age_ms) {
    uint64_t now_ns = berth__clock_ns();
    if (survey->taken_ns != 0 && now_ns - survey->taken_ns < age_ms * NS_PER_MS) {
        return 0;
    }
    size_t pid_count;
    pid_t *pids = berth__process_list(&pid_count);
    struct berth__surveyed *all = pids == NULL ? NULL : calloc(pid_count + 1, sizeof(*all));
    if (all == NULL) {
        int error = pids == NULL ? -errno : -ENOMEM;
        free(pids);
        return error;
    }
    size_t count = 0;
    survey->bytes = 0;
    size_t before = 0; /* both lists ascend */
    for (size_t i = 0; i < pid_count; i++) {
        while (before < survey->count && survey->all[before].pid < pids[i]) {
            before++;
        }
        bool known = before < survey->count && survey->all[before].pid == pids[i];
        count += renew(survey, &all[count], known ? &survey->all[before++] : NULL, pids[i], now_ns);
    }
    free(pids);
    berth__survey_end(survey);
    survey->all = all;
    survey->count = count;
    survey->taken_ns = now_ns;
    take_history(survey, now_ns);
    return 0;
}

/* Those whose number is 0 have moved into a newer survey. */
void berth__survey_end(struct berth__survey *survey) {
    for (size_t i = 0; i < survey->count; i++) {
        if (survey->all[i].pid != 0) {
            forget(&survey->all[i]);
        }
    }
    free(survey->all);
    survey->all = NULL;
    survey->count = 0;
}
