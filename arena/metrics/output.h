/*
 * Where the writers of metrics put their text: piece by piece through a sink, without allocating.
 */
#ifndef BERTH_METRICS_OUTPUT_H
#define BERTH_METRICS_OUTPUT_H

#include "base/text.h"

#include <berth/metrics.h>

struct berth__output {
    berth_metrics_sink *sink;
    void *context;
    struct berth__text text;
    char buffer[4096];
};

BERTH_INLINE void berth__output_init(struct berth__output *out, berth_metrics_sink *sink,
                                     void *context) {
    out->sink = sink;
    out->context = context;
    berth__text_init(&out->text, out->buffer, sizeof(out->buffer));
}

/* Must follow the last line. */
BERTH_INLINE void berth__output_flush(struct berth__output *out) {
    out->sink(out->context, out->text.buffer, out->text.length);
    berth__text_init(&out->text, out->buffer, sizeof(out->buffer));
}

/* The text to add a line of moderate length to: half the buffer at most. */
BERTH_INLINE struct berth__text *berth__output_line(struct berth__output *out) {
    if (out->text.length > sizeof(out->buffer) / 2) {
        berth__output_flush(out);
    }
    return &out->text;
}

/* A name as a string of JSON or a label's value: both escape these two alike. */
BERTH_INLINE void berth__text_quoted(struct berth__text *text, const char *name) {
    berth__text_char(text, '"');
    for (; *name != '\0'; name++) {
        if (*name == '"' || *name == '\\') {
            berth__text_char(text, '\\');
        }
        berth__text_char(text, *name);
    }
    berth__text_char(text, '"');
}

#endif
