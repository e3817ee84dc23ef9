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

#endif
