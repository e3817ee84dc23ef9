#include "cli/page_read.h"

#include "base/bits.h"
#include "os/clock.h"

#include <stdlib.h>
#include <string.h>

enum {
    VALUES_MAX = BERTH_ARRAY_COUNT(((struct berth__row *)0)->of.value),
    HELP_MAX = 400,
    HEAD_LEAST = offsetof(struct berth__stats_head, layout), /* what the first version had */
};

/* ---- texts ---- */

static const char name_characters[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";

/* The text at an offset, if it ends on the page within `length_max` characters; or NULL. */
static const char *text_at(const struct berth__stats *stats, uint64_t offset, size_t length_max) {
    if (offset == 0 || offset >= stats->page_bytes) {
        return NULL;
    }
    size_t room = berth__min(stats->page_bytes - offset, length_max + 1);
    return memchr(stats->page + offset, '\0', room) != NULL ? stats->page + offset : NULL;
}

static bool consists_of(const char *text, const char *characters) {
    return text != NULL && text[strspn(text, characters)] == '\0';
}

static const char *name_at(const struct berth__stats *stats, uint64_t offset) {
    const char *name = text_at(stats, offset, 64);
    return consists_of(name, name_characters) && *name != '\0' ? name : NULL;
}

/* One line of plain text, with nothing that OpenMetrics would have to escape. */
static const char *help_at(const struct berth__stats *stats, uint64_t offset) {
    const char *help = text_at(stats, offset, HELP_MAX);
    for (const char *at = help; help != NULL && *at != '\0'; at++) {
        if (*at < ' ' || *at > '~' || *at == '"' || *at == '\\') {
            return NULL;
        }
    }
    return help;
}

/* ---- places ---- */

/* `count` things of `bytes` each, from an offset on; NULL if they are not all on the page. */
static const void *things_at(const struct berth__stats *stats, uint64_t offset, uint64_t count,
                             uint64_t bytes) {
    bool inside = offset % sizeof(uint64_t) == 0 && bytes % sizeof(uint32_t) == 0 &&
                  offset <= stats->page_bytes && bytes > 0 &&
                  count <= (stats->page_bytes - offset) / bytes;
    return inside ? stats->page + offset : NULL;
}

/* Structures grow at their ends: of a longer one, the beginning is known. */
static bool take(void *to, size_t known, const void *from, uint64_t bytes) {
    if (from == NULL || bytes < known) {
        return false;
    }
    memcpy(to, from, known);
    return true;
}

/* ---- fields ---- */

static bool read_fields(struct berth__stats *stats, const struct berth__stats_level *level,
                        struct berth__metric *metrics, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        struct berth__stats_field field;
        uint64_t offset = level->fields + (uint64_t)i * level->field_bytes;
        const char *at = stats->page + offset; /* all of them were looked at together */
        memcpy(&field, at, sizeof(field));
        metrics[i].name = name_at(stats, field.name);
        metrics[i].help = help_at(stats, field.help);
        metrics[i].kind = field.kind <= BERTH_METRIC_BUCKET ? (enum berth__metric_kind)field.kind
                                                            : BERTH_METRIC_GAUGE;
        metrics[i].unit = field.unit == BERTH_METRIC_BYTES ? BERTH_METRIC_BYTES : BERTH_METRIC_NONE;
        if (metrics[i].name == NULL || metrics[i].help == NULL) {
            return false;
        }
    }
    return true;
}

static bool read_level_info(struct berth__stats *stats, const struct berth__stats_level *level,
                            unsigned number) {
    struct berth__level_info *info = &stats->levels[number];
    struct berth__metric *metrics = stats->metrics + (size_t)number * VALUES_MAX;
    unsigned count = (unsigned)berth__min(level->field_count, VALUES_MAX);
    bool labelled = number == BERTH_LEVEL_ARENA || number == BERTH_LEVEL_CLASS;
    *info = (struct berth__level_info){.prefix = name_at(stats, level->prefix),
                                       .label = labelled ? name_at(stats, level->label) : NULL,
                                       .name = berth__levels[number].name,
                                       .metrics = metrics,
                                       .count = count};
    return info->prefix != NULL && (!labelled || info->label != NULL) &&
           level->field_bytes >= sizeof(struct berth__stats_field) &&
           things_at(stats, level->fields, level->field_count, level->field_bytes) != NULL &&
           read_fields(stats, level, metrics, count);
}

/* ---- rows ---- */

/* The writers escape what their forms need. */
static bool is_printable(const char *text) {
    while (*text >= ' ' && *text <= '~') {
        text++;
    }
    return *text == '\0';
}

static bool read_row(struct berth__row *row, const char *from, unsigned values, bool of_pool) {
    memcpy(row->pool, from, sizeof(row->pool));
    memcpy(&row->index, from + offsetof(struct berth__stats_row, index), sizeof(row->index));
    memcpy(row->of.value, from + offsetof(struct berth__stats_row, value),
           values * sizeof(uint64_t));
    bool ends = memchr(row->pool, '\0', sizeof(row->pool)) != NULL;
    return ends && is_printable(row->pool) && (row->pool[0] != '\0') == of_pool;
}

static enum berth__page_fault read_rows(struct berth__stats *stats,
                                        const struct berth__stats_level *level, unsigned number) {
    uint64_t count = level->row_count;
    uint64_t least =
        sizeof(struct berth__stats_row) + (uint64_t)level->field_count * sizeof(uint64_t);
    const char *from = things_at(stats, level->rows, count, level->row_bytes);
    if (from == NULL || level->row_bytes < least || (number == BERTH_LEVEL_PROCESS && count != 1)) {
        return BERTH_PAGE_DAMAGED;
    }
    struct berth__row *rows = calloc(count + 1, sizeof(*rows));
    if (rows == NULL) {
        return BERTH_PAGE_NO_MEMORY;
    }
    stats->snapshot.rows[number] = rows;
    stats->snapshot.count[number] = count;
    for (uint64_t i = 0; i < count; i++) {
        if (!read_row(&rows[i], from + i * level->row_bytes, stats->levels[number].count,
                      number != BERTH_LEVEL_PROCESS)) {
            return BERTH_PAGE_DAMAGED;
        }
    }
    return BERTH_PAGE_SOUND;
}

/* ---- the page ---- */

static enum berth__page_fault read_levels(struct berth__stats *stats,
                                          const struct berth__stats_head *head) {
    const char *levels = things_at(stats, head->levels, head->level_count, head->level_bytes);
    unsigned known = (unsigned)berth__min(head->level_count, BERTH_LEVEL_COUNT);
    enum berth__page_fault fault = BERTH_PAGE_SOUND;
    if (levels == NULL || head->level_count == 0) {
        return BERTH_PAGE_DAMAGED;
    }
    for (unsigned i = 0; i < known && fault == BERTH_PAGE_SOUND; i++) {
        struct berth__stats_level level;
        if (!take(&level, sizeof(level), levels + (size_t)i * head->level_bytes,
                  head->level_bytes) ||
            !read_level_info(stats, &level, i)) {
            return BERTH_PAGE_DAMAGED;
        }
        fault = read_rows(stats, &level, i);
    }
    return fault;
}

static void take_head(struct berth__stats *stats, const struct berth__stats_head *head) {
    memcpy(stats->berth_version, head->berth_version, sizeof(head->berth_version));
    for (char *at = stats->berth_version; *at != '\0'; at++) {
        if (*at < ' ' || *at > '~' || *at == '"' || *at == '\\') {
            *at = '?';
        }
    }
    bool has_mail = head->mail_bytes >= sizeof(struct berth__stats_mail) &&
                    things_at(stats, head->mail, 1, head->mail_bytes) != NULL;
    stats->mail = has_mail ? head->mail : 0;
    stats->layout = head->layout == 0
                        ? NULL
                        : things_at(stats, head->layout, head->layout_count, sizeof(uint64_t));
    stats->layout_count = stats->layout == NULL ? 0 : head->layout_count;
    stats->taken_ns = head->taken_ns;
    stats->made_ns = head->made_ns;
    stats->cost_ns = head->cost_ns;
    stats->rows_left_out = head->rows_left_out;
    stats->samples = head->samples;
    stats->trace = head->trace;
    stats->snapshot.version = stats->berth_version;
    stats->snapshot.levels = stats->levels;
}

enum berth__page_fault berth__stats_read(struct berth__stats *stats, const void *page,
                                         size_t page_bytes) {
    struct berth__stats_head head;
    memset(stats, 0, sizeof(*stats));
    stats->page = page;
    stats->page_bytes = page_bytes;
    if (!take(&head, sizeof(head), page, page_bytes) || head.magic != BERTH_STATS_MAGIC) {
        return BERTH_PAGE_NONE;
    }
    stats->version = head.version;
    if (head.version != BERTH_STATS_VERSION) {
        return BERTH_PAGE_OTHER_VERSION;
    }
    if (head.sequence % 2 != 0) {
        return BERTH_PAGE_UNFINISHED;
    }
    if (head.head_bytes < HEAD_LEAST || head.head_bytes > page_bytes) {
        return BERTH_PAGE_DAMAGED;
    }
    if (head.head_bytes < sizeof(head)) { /* an older one, which has no more */
        memset((char *)&head + head.head_bytes, 0, sizeof(head) - head.head_bytes);
    }
    stats->metrics = calloc((size_t)BERTH_LEVEL_COUNT * VALUES_MAX, sizeof(*stats->metrics));
    if (stats->metrics == NULL) {
        return BERTH_PAGE_NO_MEMORY;
    }
    take_head(stats, &head);
    return read_levels(stats, &head);
}

void berth__stats_free(struct berth__stats *stats) {
    for (unsigned i = 0; i < BERTH_LEVEL_COUNT; i++) {
        free(stats->snapshot.rows[i]);
        stats->snapshot.rows[i] = NULL;
    }
    free(stats->metrics);
    stats->metrics = NULL;
}

double berth__stats_age_s(const struct berth__stats *stats) {
    uint64_t now_ns = berth__clock_ns();
    return now_ns > stats->taken_ns ? (double)(now_ns - stats->taken_ns) / 1e9 : 0;
}

uint64_t berth__stats_figure(const struct berth__stats *stats, const char *name,
                             uint64_t otherwise) {
    const struct berth__level_info *level = &stats->levels[BERTH_LEVEL_PROCESS];
    for (unsigned i = 0; i < level->count; i++) {
        if (strcmp(level->metrics[i].name, name) == 0) {
            return stats->snapshot.rows[BERTH_LEVEL_PROCESS]->of.value[i];
        }
    }
    return otherwise;
}
