#include "pool/options.h"

#include "base/bits.h"
#include "base/check.h"
#include "base/text.h"
#include "os/environ.h"
#include "os/warn.h"

#include <string.h>

const struct berth__option_info berth__option_infos[BERTH_OPTION_COUNT] = {
#define BERTH_X(option, kind, text, at_least, at_most, description)                                \
    {.name = #option,                                                                              \
     .type = BERTH_OPTION_##kind,                                                                  \
     .default_text = text,                                                                         \
     .least = at_least,                                                                            \
     .most = at_most,                                                                              \
     .help = description},
    BERTH_OPTIONS(BERTH_X)
#undef BERTH_X
};

static bool equals(const char *text, size_t length, const char *word) {
    return length == strlen(word) && memcmp(text, word, length) == 0;
}

/* The position of a word in a list that ends with NULL, or -1. */
static int find_word(const char *text, size_t length, const char *const *words) {
    for (int i = 0; words[i] != NULL; i++) {
        if (equals(text, length, words[i])) {
            return i;
        }
    }
    return -1;
}

static bool parse_bool(const char *text, size_t length, uint64_t *value) {
    static const char *const words[] = {"false", "true", "0", "1", "no", "yes", "off", "on", NULL};
    int word = find_word(text, length, words);
    *value = (uint64_t)word & 1;
    return word >= 0;
}

static bool parse_thp(const char *text, size_t length, uint64_t *value) {
    static const char *const words[] = {"never", "auto", "always", NULL};
    int word = find_word(text, length, words);
    *value = (uint64_t)word;
    return word >= 0;
}

static bool parse_leak(const char *text, size_t length, uint64_t *value) {
    static const char *const words[] = {"off", "simple", "advanced", "paranoid", NULL};
    int word = find_word(text, length, words);
    *value = (uint64_t)word;
    return word >= 0;
}

static bool parse_stack(const char *text, size_t length, uint64_t *value) {
    static const char *const words[] = {"frames", "unwind", NULL};
    int word = find_word(text, length, words);
    *value = (uint64_t)word;
    return word >= 0;
}

static bool parse_number(const char *text, size_t length, uint64_t *value) {
    bool digits = length > 0 && text[length - 1] >= '0' && text[length - 1] <= '9';
    return digits && berth__parse_size(text, length, value);
}

static bool in_bounds(const struct berth__option_info *info, uint64_t value) {
    return value >= info->least && value <= info->most;
}

/* True if the text is a value of the option's type within its bounds. */
static bool parse_value(const struct berth__option_info *info, const char *text, size_t length,
                        uint64_t *value) {
    switch (info->type) {
    case BERTH_OPTION_BOOL: return parse_bool(text, length, value);
    case BERTH_OPTION_THP: return parse_thp(text, length, value);
    case BERTH_OPTION_LEAK: return parse_leak(text, length, value);
    case BERTH_OPTION_STACK: return parse_stack(text, length, value);
    case BERTH_OPTION_PATH:
        *value = equals(text, length, "none") ? 0 : 1;
        return length > 0 && length <= BERTH_OPTION_PATH_MAX;
    case BERTH_OPTION_NUMBER: return parse_number(text, length, value) && in_bounds(info, *value);
    case BERTH_OPTION_LIMIT:
        if (equals(text, length, "none") || equals(text, length, "auto")) {
            *value = text[0] == 'n' ? BERTH_OPTION_LIMIT_NONE : BERTH_OPTION_LIMIT_AUTO;
            return true;
        }
        return berth__parse_size(text, length, value) && in_bounds(info, *value);
    case BERTH_OPTION_SIZE: break;
    }
    return berth__parse_size(text, length, value) && in_bounds(info, *value);
}

static const char *expected(const struct berth__option_info *info) {
    switch (info->type) {
    case BERTH_OPTION_BOOL: return "true or false";
    case BERTH_OPTION_THP: return "never, auto or always";
    case BERTH_OPTION_STACK: return "frames or unwind";
    case BERTH_OPTION_PATH: return "a path of at most 255 characters, or none";
    case BERTH_OPTION_LEAK: return "off, simple, advanced or paranoid";
    case BERTH_OPTION_LIMIT: return "a size such as 64M (at least 1M), none, or auto";
    case BERTH_OPTION_NUMBER: return "a number";
    case BERTH_OPTION_SIZE: break;
    }
    return info == &berth__option_infos[BERTH_OPTION_chunk]
               ? "a size that is a power of two, such as 1M,"
               : "a size such as 64K, 16M or 1G";
}

/* The text of a bound as a user would write it. */
static void text_bound(struct berth__text *text, uint64_t bound, bool size) {
    static const char units[] = " KMGT";
    unsigned unit = 0;
    while (size && bound != 0 && bound % 1024 == 0 && unit < 4) {
        bound /= 1024;
        unit++;
    }
    berth__text_uint(text, bound);
    if (unit > 0) {
        berth__text_char(text, units[unit]);
    }
}

static void report_bad(const struct berth__option_info *info, const char *value, size_t length,
                       berth__option_report *report, void *context) {
    char buffer[256];
    struct berth__text text;
    berth__text_init(&text, buffer, sizeof(buffer));
    berth__text_format(&text, "option %s: \"", info->name);
    berth__text_bytes(&text, value, berth__min(length, 64));
    berth__text_format(&text, "\" is not %s", expected(info));
    bool bounded = info->type == BERTH_OPTION_NUMBER || info->type == BERTH_OPTION_SIZE;
    if (bounded && info->most != INT64_MAX) {
        bool size = info->type == BERTH_OPTION_SIZE;
        berth__text_string(&text, " from ");
        text_bound(&text, info->least, size);
        berth__text_string(&text, " to ");
        text_bound(&text, info->most, size);
    }
    report(context, buffer);
}

static void report_unknown(const char *name, size_t length, berth__option_report *report,
                           void *context) {
    char buffer[256];
    struct berth__text text;
    berth__text_init(&text, buffer, sizeof(buffer));
    berth__text_string(&text, "there is no option \"");
    berth__text_bytes(&text, name, berth__min(length, 64));
    berth__text_string(&text, "\" (`berth options` lists them)");
    report(context, buffer);
}

/* One "name:value". A chunk must be a power of two besides. */
static bool parse_one(struct berth__options *options, const char *text, size_t length,
                      berth__option_report *report, void *context) {
    const char *colon = memchr(text, ':', length);
    size_t name_length = colon == NULL ? length : (size_t)(colon - text);
    for (unsigned i = 0; i < BERTH_OPTION_COUNT; i++) {
        const struct berth__option_info *info = &berth__option_infos[i];
        if (!equals(text, name_length, info->name)) {
            continue;
        }
        const char *value = colon == NULL ? "" : colon + 1;
        size_t value_length = colon == NULL ? 0 : length - name_length - 1;
        uint64_t parsed = 0;
        if (!parse_value(info, value, value_length, &parsed) ||
            (i == BERTH_OPTION_chunk && !berth__is_power_of_2(parsed))) {
            report_bad(info, value, value_length, report, context);
            return false;
        }
        options->value[i] = parsed;
        options->is_set[i] = true;
        if (info->type == BERTH_OPTION_PATH) {
            char *path = options->paths[i == BERTH_OPTION_prof_failure ? BERTH_PATH_OF_FAILURE
                                                                       : BERTH_PATH_OF_FINAL];
            memcpy(path, value, value_length);
            path[value_length] = '\0';
        }
        return true;
    }
    report_unknown(text, name_length, report, context);
    return false;
}

/* A default may be words for two doors, as in "511 for pools": those are numbers elsewhere. */
void berth__options_init(struct berth__options *options) {
    memset(options, 0, sizeof(*options));
    for (unsigned i = 0; i < BERTH_OPTION_COUNT; i++) {
        const struct berth__option_info *info = &berth__option_infos[i];
        size_t length = strcspn(info->default_text, " ");
        bool plain = info->default_text[length] == '\0';
        bool parsed = parse_value(info, info->default_text, length, &options->value[i]);
        BERTH_CHECK(parsed || !plain, "the default of an option is not valid");
    }
}

unsigned berth__options_parse(struct berth__options *options, const char *text,
                              berth__option_report *report, void *context) {
    unsigned bad = 0;
    while (*text != '\0') {
        size_t length = strcspn(text, ",");
        if (length > 0 && !parse_one(options, text, length, report, context)) {
            bad++;
        }
        text += length;
        text += *text == ',';
    }
    return bad;
}

static void say_nothing(void *context, const char *message) {
    (void)context, (void)message;
}

void berth__options_peek(struct berth__options *options) {
    berth__options_init(options);
    const char *text = berth__environ_get("BERTH_CONF");
    if (text != NULL) {
        (void)berth__options_parse(options, text, say_nothing, NULL);
    }
}

static void warn(void *context, const char *message) {
    (void)context;
    berth__warn("BERTH_CONF: %s; ignored", message);
}

/* The engine starts once, in one thread, and calls this first; later callers find it done. */
const struct berth__options *berth__options_get(void) {
    static struct berth__options options;
    static bool ready;
    if (ready) {
        return &options;
    }
    berth__options_init(&options);
    const char *text = berth__environ_get("BERTH_CONF");
    unsigned bad = text == NULL ? 0 : berth__options_parse(&options, text, warn, NULL);
    ready = true;
    if (bad > 0 && options.value[BERTH_OPTION_abort_conf] != 0) {
        berth__fatal("BERTH_CONF: %u bad option(s), and abort_conf is set", bad);
    }
    return &options;
}
