/*
 * Options of the process: from BERTH_CONF, "name:value,name:value".
 *
 * Read once, when the engine starts. Ignored in setuid programs. A bad option is named on stderr
 * with its value and skipped, or, with abort_conf:true, stops the process.
 */
#ifndef BERTH_POOL_OPTIONS_H
#define BERTH_POOL_OPTIONS_H

#include "base/compiler.h"
#include "pool/options_table.h"

enum berth__option_type {
    BERTH_OPTION_SIZE,
    BERTH_OPTION_NUMBER,
    BERTH_OPTION_BOOL,
    BERTH_OPTION_LIMIT,
    BERTH_OPTION_THP,
    BERTH_OPTION_LEAK,  /* the value is an enum berth_leak_level */
    BERTH_OPTION_STACK, /* the value is one of the below */
    BERTH_OPTION_PATH   /* the value is 1 if there is one: berth__options.paths */
};
enum { BERTH_OPTION_STACK_FRAMES, BERTH_OPTION_STACK_UNWIND };
enum { BERTH_OPTION_PATH_MAX = 255 };

/* Values of LIMIT besides bytes, and of THP. */
#define BERTH_OPTION_LIMIT_NONE UINT64_MAX
#define BERTH_OPTION_LIMIT_AUTO (UINT64_MAX - 1)
enum { BERTH_OPTION_THP_NEVER, BERTH_OPTION_THP_AUTO, BERTH_OPTION_THP_ALWAYS };

enum berth__option {
#define BERTH_X(name, type, text, least, most, help) BERTH_OPTION_##name,
    BERTH_OPTIONS(BERTH_X)
#undef BERTH_X
        BERTH_OPTION_COUNT
};

struct berth__option_info {
    const char *name;
    enum berth__option_type type;
    const char *default_text;
    uint64_t least, most;
    const char *help;
};

extern const struct berth__option_info berth__option_infos[BERTH_OPTION_COUNT];

enum { BERTH_PATH_OF_FINAL, BERTH_PATH_OF_FAILURE, BERTH_OPTION_PATHS };

struct berth__options {
    uint64_t value[BERTH_OPTION_COUNT];
    bool is_set[BERTH_OPTION_COUNT]; /* by the user */
    char paths[BERTH_OPTION_PATHS][BERTH_OPTION_PATH_MAX + 1];
};

/* Fills in the defaults. */
void berth__options_init(struct berth__options *options);

/* Reads a configuration into options. Returns the number of bad options; each was reported through
 * report(context, message). Never allocates. */
typedef void berth__option_report(void *context, const char *message);
unsigned berth__options_parse(struct berth__options *options, const char *text,
                              berth__option_report *report, void *context);

/* The same as it stands in the environment, without a word on what is bad: for what lies beside the
 * engine, which warns, and may be another copy. */
void berth__options_peek(struct berth__options *options);

/* The process's options: BERTH_CONF over the defaults, read on the first call. */
const struct berth__options *berth__options_get(void);

#endif
