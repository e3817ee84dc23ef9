/*
 * Records as text: names of functions where there are some, offsets in files else.
 */
#include "buffer/leak.h"

#include "base/text.h"
#include "os/dynamic.h"
#include "os/warn.h"

#include <string.h>

static void write_place(struct berth__text *text, const void *place) {
    berth__text_string(text, "    ");
    berth__dynamic_describe(text, place);
    berth__text_char(text, '\n');
}

static void write_use(struct berth__text *text, const struct berth_leak_use *use) {
    berth__text_format(text, "  %s", use->what);
    if (use->hint != NULL) {
        berth__text_format(text, " \"%s\"", use->hint);
    }
    berth__text_format(text, " %zu ms ago by thread ", (size_t)use->age_ms);
    berth__text_hex(text, use->thread);
    berth__text_string(text, ", from\n");
    for (unsigned i = 0; i < use->depth; i++) {
        write_place(text, use->stack[i]);
    }
}

void berth_leak_text(const struct berth_leak *leak, char *buffer, size_t size) {
    if (size == 0) {
        return;
    }
    struct berth__text text;
    berth__text_init(&text, buffer, size);
    berth__text_format(&text, "not released: %zu bytes at %p, pool \"%s\", record %zu\n",
                       leak->bytes, (const void *)leak->data, leak->pool, (size_t)leak->number);
    write_use(&text, &leak->allocated);
    if (leak->use_count > 0) {
        berth__text_format(&text, "  the last %u of %zu uses:\n", leak->uses_kept,
                           (size_t)leak->use_count);
    }
    for (unsigned i = 0; i < leak->uses_kept; i++) {
        write_use(&text, &leak->uses[i]);
    }
}

void berth__leak_print(void *unused, const struct berth_leak *leak) {
    (void)unused;
    char text[8192];
    berth_leak_text(leak, text, sizeof(text));
    char *line = text;
    char *end;
    while ((end = strchr(line, '\n')) != NULL) {
        *end = '\0';
        berth__warn("%s", line);
        line = end + 1;
    }
}
