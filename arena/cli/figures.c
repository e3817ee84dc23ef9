#include "cli/figures.h"

#include <stdio.h>
#include <string.h>

static const char units[] = "BKMGT";

/* Its unit. */
static unsigned scale(double *value) {
    unsigned unit = 0;
    while (*value >= 1024 && unit + 1 < sizeof(units) - 1) {
        *value /= 1024;
        unit++;
    }
    return unit;
}

const char *berth__short_size(char text[BERTH_SIZE_TEXT], uint64_t bytes) {
    double value = (double)bytes;
    unsigned unit = scale(&value);
    if (bytes == UINT64_MAX) {
        snprintf(text, BERTH_SIZE_TEXT, "none");
    } else {
        snprintf(text, BERTH_SIZE_TEXT, unit == 0 ? "%.0f" : "%.1f%c", value, units[unit]);
    }
    return text;
}

const char *berth__long_size(char text[BERTH_SIZE_TEXT], double bytes) {
    unsigned unit = scale(&bytes);
    snprintf(text, BERTH_SIZE_TEXT, unit == 0 ? "%.0f B" : "%.1f %ciB", bytes, units[unit]);
    return text;
}

int berth__stats_column(const struct berth__stats *stats, enum berth__level level,
                        const char *name) {
    const struct berth__level_info *info = &stats->levels[level];
    for (unsigned i = 0; i < info->count; i++) {
        if (strcmp(info->metrics[i].name, name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

uint64_t berth__stats_row_figure(const struct berth__stats *stats, enum berth__level level,
                                 const struct berth__row *row, const char *name) {
    int column = berth__stats_column(stats, level, name);
    return column < 0 ? 0 : row->of.value[column];
}

uint64_t berth__stats_sum(const struct berth__stats *stats, enum berth__level level,
                          const char *name) {
    int column = berth__stats_column(stats, level, name);
    uint64_t sum = 0;
    for (size_t i = 0; column >= 0 && i < stats->snapshot.count[level]; i++) {
        sum += stats->snapshot.rows[level][i].of.value[column];
    }
    return sum;
}

/* Also what might end a script, should somebody put the text into one. */
void berth__json_string(FILE *to, const char *text) {
    fputc('"', to);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '&') {
            fprintf(to, "\\u%04x", c > '~' ? '?' : c);
        } else {
            fputc(c, to);
        }
    }
    fputc('"', to);
}
