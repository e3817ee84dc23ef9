/*
 * A flame graph: stacks beside each other, as wide as their bytes, the outermost calls at the
 * bottom. One file without references to others; names and figures are shown on hover.
 */
#include "cli/profile_write.h"

#include "base/bits.h"
#include "cli/figures.h"

#include <stdlib.h>
#include <string.h>

enum { WIDTH = 1200, ROW = 17, HEAD = 44, MARGIN = 10, CHARACTER = 7 };

struct frame {
    const char *name;
    double bytes, blocks;
    struct frame *first, *next; /* what it calls; what its caller calls besides */
};

/* NOLINTBEGIN(misc-no-recursion): no deeper than a stack is kept, BERTH_SITE_DEPTH */

static void free_frames(struct frame *frame) {
    while (frame != NULL) {
        struct frame *next = frame->next;
        free_frames(frame->first);
        free(frame);
        frame = next;
    }
}

/* NULL without memory. */
static struct frame *called_from(struct frame *caller, const char *name) {
    for (struct frame *at = caller->first; at != NULL; at = at->next) {
        if (strcmp(at->name, name) == 0) {
            return at;
        }
    }
    struct frame *frame = calloc(1, sizeof(*frame));
    if (frame != NULL) {
        frame->name = name;
        frame->next = caller->first;
        caller->first = frame;
    }
    return frame;
}

static bool add_site(struct berth__profile *profile, const struct berth__profile_site *site,
                     struct berth__amount amount, struct frame *root) {
    struct frame *frame = root;
    root->bytes += amount.bytes;
    root->blocks += amount.blocks;
    for (unsigned d = site->depth; d > 0; d--) {
        frame =
            called_from(frame, berth__symbols_find(profile->symbols, site->place[d - 1])->function);
        if (frame == NULL) {
            return false;
        }
        frame->bytes += amount.bytes;
        frame->blocks += amount.blocks;
    }
    return true;
}

static bool is_shown(const struct frame *frame, double scale) {
    return frame->bytes * scale >= 0.3;
}

static unsigned depth_of(const struct frame *frame, double scale) {
    unsigned depth = 0;
    for (const struct frame *at = frame->first; at != NULL; at = at->next) {
        if (is_shown(at, scale)) {
            depth = (unsigned)berth__max(depth, 1 + depth_of(at, scale));
        }
    }
    return depth;
}

static void write_escaped(FILE *to, const char *text, size_t most) {
    for (size_t i = 0; i < most && text[i] != '\0'; i++) {
        switch (text[i]) {
        case '<': fputs("&lt;", to); break;
        case '>': fputs("&gt;", to); break;
        case '&': fputs("&amp;", to); break;
        case '"': fputs("&quot;", to); break;
        default: fputc((unsigned char)text[i] < ' ' ? '?' : text[i], to);
        }
    }
}

/* A warm colour that a name always has. */
static unsigned hue_of(const char *name) {
    unsigned hash = 5381;
    for (; *name != '\0'; name++) {
        hash = hash * 33 + (unsigned char)*name;
    }
    return hash % 55;
}

static void write_frame(FILE *to, const struct frame *frame, double x, double y, double width,
                        double total) {
    char size[BERTH_SIZE_TEXT];
    size_t length = strlen(frame->name);
    size_t room = width > 2 * CHARACTER ? (size_t)((width - 6) / CHARACTER) : 0;
    fputs("<g><title>", to);
    write_escaped(to, frame->name, length);
    fprintf(to, "\n%s in %.0f blocks, %.1f %%</title>", berth__long_size(size, frame->bytes),
            frame->blocks, 100 * frame->bytes / total);
    fprintf(to,
            "<rect x=\"%.1f\" y=\"%.0f\" width=\"%.1f\" height=\"%d\" rx=\"2\" "
            "fill=\"hsl(%u,75%%,68%%)\"/>",
            x, y, width > 0.5 ? width - 0.4 : width, ROW - 1, hue_of(frame->name));
    if (room >= 3) {
        fprintf(to, "<text x=\"%.1f\" y=\"%.0f\">", x + 3, y + 12);
        write_escaped(to, frame->name, length <= room ? length : room - 1);
        fputs(length <= room ? "</text>" : "\u2026</text>", to);
    }
    fputs("</g>\n", to);
}

static void write_below(FILE *to, const struct frame *caller, double x, double y, double scale,
                        double total) {
    for (const struct frame *at = caller->first; at != NULL; at = at->next) {
        double width = at->bytes * scale;
        if (is_shown(at, scale)) {
            write_frame(to, at, x, y, width, total);
            write_below(to, at, x, y - ROW, scale, total);
        }
        x += width;
    }
}

/* NOLINTEND(misc-no-recursion) */

bool berth__profile_write_svg(FILE *to, struct berth__profile *profile,
                              enum berth__profile_measure measure, const char *title) {
    struct frame root = {.name = "all"};
    bool done = true;
    for (size_t i = 0; done && i < profile->site_count; i++) {
        struct berth__amount amount = berth__profile_amount(&profile->sites[i], measure);
        done = amount.bytes < 1 || add_site(profile, &profile->sites[i], amount, &root);
    }
    double total = root.bytes > 0 ? root.bytes : 1;
    double scale = (WIDTH - 2 * MARGIN) / total;
    double height = HEAD + (depth_of(&root, scale) + 1) * (double)ROW + MARGIN;
    fprintf(to,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" "
            "font-family=\"ui-monospace,monospace\" font-size=\"11\">\n"
            "<style>svg{background:#fff}text{fill:#111}g:hover rect{stroke:#000}"
            "@media(prefers-color-scheme:dark){svg{background:#16181d}.t{fill:#ddd}}</style>\n"
            "<text class=\"t\" x=\"%d\" y=\"24\" font-size=\"15\">",
            WIDTH, height, WIDTH, MARGIN);
    write_escaped(to, title, strlen(title));
    fputs("</text>\n", to);
    double bottom = height - MARGIN - ROW;
    write_frame(to, &root, MARGIN, bottom, WIDTH - 2 * MARGIN, total);
    write_below(to, &root, MARGIN, bottom - ROW, scale, total);
    fputs("</svg>\n", to);
    free_frames(root.first);
    return done;
}
