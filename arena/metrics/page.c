#include "metrics/page.h"

#include "base/bits.h"
#include "chunk/mappings.h"
#include "chunk/meta.h"
#include "heap/engine.h"
#include "heap/observer.h"
#include "heap/sample_table.h"
#include "heap/trace.h"
#include "metrics/layout.h"
#include "metrics/mail.h"
#include "metrics/read.h"
#include "metrics/snapshot.h"
#include "os/clock.h"
#include "os/fault.h"
#include "os/lock.h"
#include "os/pages.h"
#include "pool/api.h"
#include "pool/options.h"

#include <string.h>

_Static_assert(sizeof(struct berth__stats_row) == offsetof(struct berth__row, of),
               "a row on the page begins like a row of the writers");

enum {
    INTERVAL_MS = 20, /* at least */
    INTERVAL_MS_MOST = 10000,
    INTERVAL_PER_COST = 2000, /* so it takes 0.05 % of a CPU */
    EARLY_PER_COST = 1000,    /* 0.1 % of a CPU at most, with those out of turn */
    MAPPINGS = 3,             /* the page, and what is beside it */
    SAVED_NS = 10000000,      /* of that, what a quiet time leaves for later at most */
    RETRY_MS = 1000,          /* when there was no memory for the page */
};

static _Atomic uint64_t writer; /* 0, or its thread */
static _Atomic uint64_t next_ms;
static _Atomic uint64_t start_ns; /* of this process, or of looking at it */
static _Atomic uint64_t spent_ns; /* on snapshots */
static _Atomic(struct berth__stats_head *) page;

/* ---- the writer's ---- */

static bool wiped_by_kernel;
static uint64_t cost_ns;
static uint64_t mapped_bytes; /* of the page */
static uint64_t first_row;    /* its offset */
static uint16_t pool_numbers[BERTH_POOLS_MAX];
static unsigned pool_count;
static _Atomic uint32_t forks; /* between this process and the one that was started */

static uint64_t offset_of(const struct berth__stats_head *head, const void *at) {
    return (uint64_t)((const char *)at - (const char *)head);
}

static struct berth__stats_mail *mail_of(struct berth__stats_head *head) {
    return (struct berth__stats_mail *)(void *)(head + 1);
}

static struct berth__stats_level *levels_of(struct berth__stats_head *head) {
    return (struct berth__stats_level *)(void *)(mail_of(head) + 1);
}

/* ---- memory ---- */

static struct berth__stats_head *map(size_t bytes) {
    size_t around = bytes + 2 * berth__page_bytes;
    char *reserved = berth__pages_reserve(around, berth__page_bytes);
    if (reserved == NULL) {
        return NULL;
    }
    char *at = reserved + berth__page_bytes;
    if (berth__pages_commit(at, bytes) != 0) {
        berth__pages_unreserve(reserved, around);
        return NULL;
    }
    berth__pages_want_huge(at, bytes, false); /* 2 MiB would be resident */
    wiped_by_kernel = berth__pages_wipe_on_fork(at, bytes);
    berth__meta_count(bytes);
    berth__mappings_add(MAPPINGS);
    return (struct berth__stats_head *)(void *)at;
}

/* ---- the part that stays ---- */

static uint32_t add_text(struct berth__stats_head *head, char **end, const char *text) {
    size_t bytes = strlen(text) + 1;
    uint32_t offset = (uint32_t)offset_of(head, *end);
    memcpy(*end, text, bytes);
    *end += bytes;
    return offset;
}

static void write_level(struct berth__stats_head *head, struct berth__stats_level *level,
                        const struct berth__level_info *info, struct berth__stats_field *fields,
                        char **texts) {
    level->prefix = add_text(head, texts, info->prefix);
    level->label = info->label != NULL ? add_text(head, texts, info->label) : 0;
    level->fields = (uint32_t)offset_of(head, fields);
    level->field_count = info->count;
    level->field_bytes = sizeof(*fields);
    level->row_bytes = (uint32_t)(sizeof(struct berth__stats_row) + info->count * sizeof(uint64_t));
    for (unsigned i = 0; i < info->count; i++) {
        const struct berth__metric *metric = &info->metrics[i];
        fields[i] = (struct berth__stats_field){.name = add_text(head, texts, metric->name),
                                                .help = add_text(head, texts, metric->help),
                                                .kind = metric->kind,
                                                .unit = metric->unit};
    }
}

/* Returns the offset of what follows. */
static uint64_t write_tables(struct berth__stats_head *head) {
    struct berth__stats_level *levels = levels_of(head);
    uint64_t *layout = (uint64_t *)(void *)(levels + BERTH_LEVEL_COUNT);
    struct berth__stats_field *fields =
        (struct berth__stats_field *)(void *)(layout + BERTH_LAYOUT_COUNT);
    size_t field_count = 0;
    for (unsigned i = 0; i < BERTH_LEVEL_COUNT; i++) {
        field_count += berth__levels[i].count;
    }
    char *texts = (char *)(fields + field_count);
    head->page_bytes = (uint32_t)mapped_bytes;
    head->version = BERTH_STATS_VERSION;
    head->head_bytes = sizeof(*head);
    head->levels = (uint32_t)offset_of(head, levels);
    head->level_count = BERTH_LEVEL_COUNT;
    head->level_bytes = sizeof(*levels);
    head->layout = (uint32_t)offset_of(head, layout);
    head->layout_count = BERTH_LAYOUT_COUNT;
    berth__layout_write(layout);
    head->mail = (uint32_t)offset_of(head, mail_of(head));
    head->mail_bytes = sizeof(struct berth__stats_mail);
    strncpy(head->berth_version, berth__do_version(), sizeof(head->berth_version) - 1);
    head->trace = (uintptr_t)&berth__trace_root;
    head->made_ns = berth__clock_ns();
    for (unsigned i = 0; i < BERTH_LEVEL_COUNT; i++) {
        write_level(head, &levels[i], &berth__levels[i], fields, &texts);
        fields += berth__levels[i].count;
    }
    return berth__round_up(offset_of(head, texts), sizeof(uint64_t));
}

/* ---- a snapshot ---- */

struct writing {
    struct berth__stats_head *head;
    enum berth__level level;
    uint64_t at;        /* offset of the next row */
    uint64_t left_out;  /* rows */
    uint64_t row_count; /* of the level */
};

/* To the page, so that it is there no earlier than what was stored before (S3). */
static void put_words(struct berth__stats_head *head, uint64_t offset, const void *from,
                      size_t bytes) {
    _Atomic uint64_t *to = (_Atomic uint64_t *)(void *)((char *)head + offset);
    for (size_t i = 0; i < bytes / sizeof(*to); i++) {
        uint64_t word;
        memcpy(&word, (const char *)from + i * sizeof(word), sizeof(word));
        berth__store_release(&to[i], word); /* S3 */
    }
}

static void put_row(void *context, const struct berth__row *row) {
    struct writing *writing = context;
    size_t bytes =
        sizeof(struct berth__stats_row) + berth__levels[writing->level].count * sizeof(uint64_t);
    if (berth__row_is_empty(writing->level, row)) {
        return;
    }
    if (writing->at + bytes > mapped_bytes) {
        writing->left_out++;
        return;
    }
    put_words(writing->head, writing->at, row, bytes);
    writing->at += bytes;
    writing->row_count++;
}

static void count_pools(void) {
    pool_count = 0;
    for (unsigned i = 0; i < BERTH_POOLS_MAX; i++) {
        if (berth__engine_arenas(i) != NULL) {
            pool_numbers[pool_count++] = (uint16_t)i;
        }
    }
}

static void put_level(struct writing *writing, struct berth__stats_level *level) {
    uint64_t rows = writing->at;
    writing->row_count = 0;
    struct berth__row row;
    for (unsigned i = 0;
         !berth__level_is_of_pools(writing->level) && berth__row_read(&row, writing->level, 0, i);
         i++) {
        put_row(writing, &row);
    }
    for (unsigned i = 0; berth__level_is_of_pools(writing->level) && i < pool_count; i++) {
        berth__rows_each(writing->level, pool_numbers[i], put_row, writing);
    }
    berth__store_release(&level->rows, rows); /* S3 */
    berth__store_release(&level->row_count, writing->row_count);
}

/* False if rows were left out. */
static bool take_snapshot(struct berth__stats_head *head) {
    uint32_t forks_before = berth__load_relaxed(&forks);
    uint64_t sequence = berth__load_relaxed(&head->sequence) | 1;
    berth__store_relaxed(&head->sequence, sequence); /* S3 */
    berth__delay_point();
    bool fresh = berth__load_relaxed(&head->magic) != BERTH_STATS_MAGIC;
    first_row = fresh ? write_tables(head) : first_row;
    struct berth__stats_level *levels = levels_of(head);
    struct writing writing = {.head = head, .at = first_row};
    berth__store_release(&head->taken_ns, berth__clock_ns());
    count_pools();
    for (unsigned i = 0; i < BERTH_LEVEL_COUNT; i++) {
        writing.level = (enum berth__level)i;
        put_level(&writing, &levels[i]);
    }
    berth__store_release(&head->cost_ns, cost_ns);
    berth__store_release(&head->used_bytes, writing.at);
    berth__store_release(&head->rows_left_out, writing.left_out);
    berth__store_release(&head->samples, (uintptr_t)berth__samples_place());
    if (berth__load_relaxed(&forks) == forks_before) { /* else the tables were wiped meanwhile */
        berth__store_release(&head->magic, BERTH_STATS_MAGIC);
    }
    berth__delay_point();
    berth__store_release(&head->sequence, sequence + 1); /* S4 */
    return writing.left_out == 0;
}

/* Twice the page, if there may be more of it. Readers that had found the old one look again. It is
 * not unmapped, because another thread may be looking into its mailbox. */
static struct berth__stats_head *grow(struct berth__stats_head *head) {
    uint64_t bytes = mapped_bytes;
    struct berth__stats_head *larger = bytes < BERTH_STATS_BYTES_MOST ? map(bytes * 2) : NULL;
    if (larger != NULL) {
        berth__store_release(&page, larger);
        mapped_bytes = bytes * 2;
        (void)berth__pages_purge(head, bytes);
    }
    return larger;
}

/* False if there is no memory for the page. */
static bool refresh(void) {
    struct berth__stats_head *head = berth__load_relaxed(&page);
    if (head == NULL) {
        mapped_bytes = berth__max(BERTH_STATS_BYTES_LEAST, berth__page_bytes);
        head = map(mapped_bytes);
        if (head == NULL) {
            return false;
        }
        berth__store_release(&page, head);
    }
    while (!take_snapshot(head)) {
        struct berth__stats_head *larger = grow(head);
        if (larger == NULL) {
            break;
        }
        head = larger;
    }
    return true;
}

/* ---- when ---- */

/* The thread may have been off its processor meanwhile: so one that took long counts as twice the
 * one before at most. */
static void note_cost(uint64_t took_ns) {
    enum { FIRST_NS_MOST = 100000 };
    uint64_t most = cost_ns == 0 ? FIRST_NS_MOST : 2 * cost_ns;
    cost_ns = berth__min(took_ns, most);
}

static uint64_t interval_ms(void) {
    uint64_t by_cost = cost_ns * INTERVAL_PER_COST / 1000000;
    return berth__min(berth__max(by_cost, INTERVAL_MS), INTERVAL_MS_MOST);
}

/* What all snapshots together may have taken by now. */
static uint64_t allowed_ns(void) {
    return (berth__clock_ns() - berth__load_relaxed(&start_ns)) / EARLY_PER_COST;
}

static bool is_due_early(void) {
    return berth__load_relaxed(&spent_ns) < allowed_ns();
}

static void note_spent(void) {
    uint64_t spent = berth__load_relaxed(&spent_ns) + cost_ns;
    uint64_t allowed = allowed_ns();
    uint64_t least = allowed > SAVED_NS ? allowed - SAVED_NS : 0;
    berth__store_relaxed(&spent_ns, berth__max(spent, least));
}

static void refresh_and_note(void) {
    if (berth__options_get()->value[BERTH_OPTION_stats_page] == 0) {
        berth__store_relaxed(&next_ms, UINT64_MAX);
        return;
    }
    uint64_t before_ns = berth__clock_ns();
    bool done = refresh();
    note_cost(berth__clock_ns() - before_ns);
    note_spent();
    berth__store_relaxed(&next_ms, berth__clock_coarse_ms() + (done ? interval_ms() : RETRY_MS));
}

bool berth__stats_tick(bool early) {
    uint64_t nobody = 0;
    struct berth__stats_head *head = berth__load_acquire(&page);
    if (head != NULL) {
        berth__mail_look(mail_of(head));
    }
    uint64_t next = berth__load_relaxed(&next_ms);
    bool due = berth__clock_coarse_ms() >= next || (early && next != UINT64_MAX && is_due_early());
    if (!due || berth__default_arenas() == NULL ||
        !berth__cas_acquire(&writer, &nobody, berth__thread_self())) { /* S1 */
        return false;
    }
    refresh_and_note();
    berth__store_release(&writer, 0); /* S2 */
    return true;
}

/* A writer that our own signal handler interrupted goes on when that returns; others are gone. */
static void in_child(void) {
    berth__add_relaxed(&forks, 1);
    berth__trace_end();
    struct berth__stats_head *head = berth__load_relaxed(&page);
    if (berth__load_relaxed(&writer) != berth__thread_self()) {
        berth__store_relaxed(&writer, 0);
    }
    if (head != NULL && !wiped_by_kernel) {
        berth__store_relaxed(&head->magic, 0);
    }
    berth__store_relaxed(&start_ns, berth__clock_ns());
    berth__store_relaxed(&spent_ns, 0);
    if (berth__load_relaxed(&next_ms) != UINT64_MAX) {
        berth__store_relaxed(&next_ms, berth__clock_coarse_ms() + INTERVAL_MS);
    }
}

void berth__stats_init(void) {
    static const struct berth__observer observer = {.tick = berth__stats_tick,
                                                    .in_child = in_child};
    berth__store_relaxed(&start_ns, berth__clock_ns());
    berth__store_relaxed(&next_ms, berth__clock_coarse_ms() + INTERVAL_MS);
    berth__store_release(&berth__observer, &observer);
}

const struct berth__stats_head *berth__stats_page(void) {
    return berth__load_relaxed(&page);
}
