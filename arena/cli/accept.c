#include "cli/accept.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* One range of the list: "type/subtype; parameter=value; q=0.5". */
struct range {
    const char *type;
    size_t length;
    double weight;
    bool served; /* no version is asked for, or one that we write */
};

static const char *skip_blanks(const char *at) {
    return at + strspn(at, " \t");
}

static size_t trimmed(const char *text, size_t length) {
    while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\t')) {
        length--;
    }
    return length;
}

static bool is(const char *text, size_t length, const char *word) {
    return length == strlen(word) && strncasecmp(text, word, length) == 0;
}

static void take_parameter(struct range *range, const char *text, size_t length) {
    size_t value = length > 8 ? 8 : 0;
    if (length >= 2 && strncasecmp(text, "q=", 2) == 0) {
        range->weight = strtod(text + 2, NULL);
    } else if (value > 0 && strncasecmp(text, "version=", value) == 0) {
        range->served =
            is(text + value, length - value, "1.0.0") || is(text + value, length - value, "0.0.4");
    }
}

/* Takes the next range off the list; false at its end. */
static bool next_range(const char **list, struct range *range) {
    const char *at = skip_blanks(*list);
    if (*at == '\0') {
        return false;
    }
    *range = (struct range){.type = at, .weight = 1, .served = true};
    size_t length = strcspn(at, ",;");
    range->length = trimmed(at, length);
    at += length;
    while (*at == ';') {
        at = skip_blanks(at + 1);
        length = strcspn(at, ",;");
        take_parameter(range, at, trimmed(at, length));
        at += length;
    }
    *list = *at == ',' ? at + 1 : at;
    return true;
}

enum berth__dialect berth__accept_dialect(const char *accept) {
    double open = 0;
    double classic = 0;
    struct range range;
    while (accept != NULL && next_range(&accept, &range)) {
        if (!range.served) {
            continue;
        }
        if (is(range.type, range.length, "application/openmetrics-text")) {
            open = range.weight > open ? range.weight : open;
        } else if (is(range.type, range.length, "text/plain")) {
            classic = range.weight > classic ? range.weight : classic;
        }
    }
    return open > 0 && open >= classic ? BERTH_OPENMETRICS : BERTH_CLASSIC;
}
