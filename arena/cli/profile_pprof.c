/*
 * profile.proto, as the profiles of Go and of many other tools are kept: protocol buffers, written
 * by hand, in gzip. The numbers of fields are those of the public profile.proto.
 */
#include "cli/profile_write.h"

#include "base/bits.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#if BERTH_ZLIB
#include <zlib.h>
#endif

/* ---- bytes ---- */

struct bytes {
    unsigned char *at;
    size_t length, room;
    bool failed; /* no memory: nothing more is added */
};

static void make_room(struct bytes *bytes, size_t room) {
    unsigned char *longer = realloc(bytes->at, room);
    if (longer == NULL) {
        bytes->failed = true;
        return;
    }
    bytes->at = longer;
    bytes->room = room;
}

static void put(struct bytes *bytes, const void *from, size_t length) {
    if (bytes->length + length > bytes->room) {
        make_room(bytes, berth__max(2 * bytes->room, bytes->length + length + 256));
    }
    if (!bytes->failed && length > 0) {
        memcpy(bytes->at + bytes->length, from, length);
        bytes->length += length;
    }
}

static void put_varint(struct bytes *bytes, uint64_t value) {
    unsigned char text[10];
    size_t length = 0;
    for (; value >= 0x80; value >>= 7) {
        text[length++] = (unsigned char)(value | 0x80);
    }
    text[length++] = (unsigned char)value;
    put(bytes, text, length);
}

enum wire { VARINT = 0, BYTES = 2 };

static void put_number(struct bytes *bytes, unsigned field, uint64_t value) {
    put_varint(bytes, field << 3 | VARINT);
    put_varint(bytes, value);
}

static void put_bytes(struct bytes *bytes, unsigned field, const void *from, size_t length) {
    put_varint(bytes, field << 3 | BYTES);
    put_varint(bytes, length);
    put(bytes, from, length);
}

/* Adds a message that was made apart, and empties that. */
static void put_message(struct bytes *bytes, unsigned field, struct bytes *message) {
    put_bytes(bytes, field, message->at, message->length);
    bytes->failed = bytes->failed || message->failed;
    message->length = 0;
}

/* ---- numbered things: texts, functions, places ---- */

struct numbered {
    uint64_t key;
    uint64_t number; /* 0: the slot is empty */
};

struct numbering {
    struct numbered *slots;
    size_t room, count;
    bool failed;
};

static struct numbered *slot_of(const struct numbering *numbering, uint64_t key) {
    size_t at = (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 16) % numbering->room;
    while (numbering->slots[at].number != 0 && numbering->slots[at].key != key) {
        at = (at + 1) % numbering->room;
    }
    return &numbering->slots[at];
}

/* *is_new: the key had no number yet, and has the next one now. 0 without memory. */
static uint64_t number_of(struct numbering *numbering, uint64_t key, bool *is_new) {
    *is_new = false;
    if (2 * numbering->count >= numbering->room) {
        struct numbering larger = {.room = berth__max(4 * numbering->room, 1024),
                                   .count = numbering->count};
        larger.slots = calloc(larger.room, sizeof(*larger.slots));
        if (larger.slots == NULL) {
            numbering->failed = true;
            return 0;
        }
        for (size_t i = 0; i < numbering->room; i++) {
            if (numbering->slots[i].number != 0) {
                *slot_of(&larger, numbering->slots[i].key) = numbering->slots[i];
            }
        }
        free(numbering->slots);
        *numbering = larger;
    }
    struct numbered *slot = slot_of(numbering, key);
    if (slot->number == 0) {
        *is_new = true;
        *slot = (struct numbered){.key = key, .number = ++numbering->count};
    }
    return slot->number;
}

/* ---- the profile ---- */

/* Fields of profile.proto. */
enum {
    PROFILE_SAMPLE_TYPE = 1,
    PROFILE_SAMPLE = 2,
    PROFILE_MAPPING = 3,
    PROFILE_LOCATION = 4,
    PROFILE_FUNCTION = 5,
    PROFILE_STRING = 6,
    PROFILE_TIME_NS = 9,
    PROFILE_PERIOD_TYPE = 11,
    PROFILE_PERIOD = 12,
    PROFILE_DEFAULT_TYPE = 14,
    VALUE_TYPE = 1,
    VALUE_UNIT = 2,
    SAMPLE_LOCATIONS = 1,
    SAMPLE_VALUES = 2,
    SAMPLE_LABEL = 3,
    LABEL_KEY = 1,
    LABEL_NUMBER = 3,
    LABEL_UNIT = 4,
    MAPPING_ID = 1,
    MAPPING_START = 2,
    MAPPING_LIMIT = 3,
    MAPPING_OFFSET = 4,
    MAPPING_FILE = 5,
    MAPPING_HAS_FUNCTIONS = 7,
    LOCATION_ID = 1,
    LOCATION_MAPPING = 2,
    LOCATION_ADDRESS = 3,
    LOCATION_LINE = 4,
    LINE_FUNCTION = 1,
    LINE_LINE = 2,
    FUNCTION_ID = 1,
    FUNCTION_NAME = 2,
    FUNCTION_SYSTEM_NAME = 3,
    FUNCTION_FILE = 4,
};

struct writer {
    struct berth__profile *profile;
    struct bytes out;
    struct bytes message, inner; /* in the making */
    struct bytes strings;
    uint64_t string_count;
    struct numbering functions, locations;
};

/* The number of a text, which is added to the table: a text is written once for each use, but
 * functions, files and mappings are few. */
static uint64_t text(struct writer *writer, const char *string) {
    put_bytes(&writer->strings, PROFILE_STRING, string, strlen(string));
    return writer->string_count++;
}

static void put_value_type(struct writer *writer, unsigned field, const char *type,
                           const char *unit) {
    put_number(&writer->message, VALUE_TYPE, text(writer, type));
    put_number(&writer->message, VALUE_UNIT, text(writer, unit));
    put_message(&writer->out, field, &writer->message);
}

/* Those with code, the main program's first; a mapping's number is its place in the list plus 1. */
static void put_mappings(struct writer *writer) {
    size_t count;
    const struct berth__mapping *mappings =
        berth__symbols_mappings(writer->profile->symbols, &count);
    for (size_t i = 0; i < count; i++) {
        if (!mappings[i].executable) {
            continue;
        }
        struct bytes *message = &writer->message;
        put_number(message, MAPPING_ID, i + 1);
        put_number(message, MAPPING_START, mappings[i].start);
        put_number(message, MAPPING_LIMIT, mappings[i].end);
        put_number(message, MAPPING_OFFSET, mappings[i].offset);
        put_number(message, MAPPING_FILE, text(writer, mappings[i].path));
        put_number(message, MAPPING_HAS_FUNCTIONS, 1);
        put_message(&writer->out, PROFILE_MAPPING, message);
    }
}

static uint64_t function_of(struct writer *writer, const struct berth__symbol_at *symbol) {
    bool is_new;
    /* By its name's text, which is kept once for each address: so two may be alike. */
    uint64_t number = number_of(&writer->functions, (uintptr_t)symbol->function, &is_new);
    if (is_new) {
        struct bytes *message = &writer->inner;
        uint64_t name = text(writer, symbol->function);
        put_number(message, FUNCTION_ID, number);
        put_number(message, FUNCTION_NAME, name);
        put_number(message, FUNCTION_SYSTEM_NAME, name);
        put_number(message, FUNCTION_FILE, text(writer, symbol->file == NULL ? "" : symbol->file));
        put_message(&writer->out, PROFILE_FUNCTION, message);
    }
    return number;
}

static uint64_t location_of(struct writer *writer, uint64_t place) {
    bool is_new;
    uint64_t number = number_of(&writer->locations, place, &is_new);
    if (is_new) {
        const struct berth__symbol_at *symbol =
            berth__symbols_find(writer->profile->symbols, place);
        size_t count;
        const struct berth__mapping *mappings =
            berth__symbols_mappings(writer->profile->symbols, &count);
        struct bytes location = {0};
        uint64_t function = function_of(writer, symbol);
        put_number(&location, LOCATION_ID, number);
        if (symbol->mapping != NULL) {
            put_number(&location, LOCATION_MAPPING, (uint64_t)(symbol->mapping - mappings) + 1);
        }
        put_number(&location, LOCATION_ADDRESS, place - 1);
        put_number(&writer->inner, LINE_FUNCTION, function);
        put_number(&writer->inner, LINE_LINE, symbol->line);
        put_message(&location, LOCATION_LINE, &writer->inner);
        put_message(&writer->out, PROFILE_LOCATION, &location);
        free(location.at);
    }
    return number;
}

static uint64_t whole(double value) {
    return value <= 0 ? 0 : (uint64_t)(value + 0.5);
}

static void put_site(struct writer *writer, const struct berth__profile_site *site,
                     enum berth__profile_measure measure, uint64_t bytes_text) {
    enum berth__profile_measure held =
        measure == BERTH_PROFILE_PEAK ? BERTH_PROFILE_PEAK : BERTH_PROFILE_HELD;
    struct berth__amount held_now = berth__profile_amount(site, held);
    uint64_t values[] = {whole(site->allocated.blocks), whole(site->allocated.bytes),
                         whole(held_now.blocks), whole(held_now.bytes)};
    if (site->depth == 0 || (values[1] == 0 && values[3] == 0)) {
        return;
    }
    struct bytes list = {0};
    for (unsigned i = 0; i < site->depth; i++) {
        put_varint(&list, location_of(writer, site->place[i]));
    }
    put_message(&writer->message, SAMPLE_LOCATIONS, &list);
    for (unsigned i = 0; i < BERTH_ARRAY_COUNT(values); i++) {
        put_varint(&list, values[i]);
    }
    put_message(&writer->message, SAMPLE_VALUES, &list);
    free(list.at);
    uint64_t blocks = values[2] != 0 ? values[2] : values[0];
    uint64_t bytes = values[2] != 0 ? values[3] : values[1];
    put_number(&writer->inner, LABEL_KEY, bytes_text);
    put_number(&writer->inner, LABEL_NUMBER, blocks == 0 ? 0 : bytes / blocks);
    put_number(&writer->inner, LABEL_UNIT, bytes_text);
    put_message(&writer->message, SAMPLE_LABEL, &writer->inner);
    put_message(&writer->out, PROFILE_SAMPLE, &writer->message);
}

static void put_profile(struct writer *writer, enum berth__profile_measure measure) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    (void)text(writer, "");
    uint64_t bytes_text = text(writer, "bytes");
    put_value_type(writer, PROFILE_SAMPLE_TYPE, "alloc_objects", "count");
    put_value_type(writer, PROFILE_SAMPLE_TYPE, "alloc_space", "bytes");
    put_value_type(writer, PROFILE_SAMPLE_TYPE, "inuse_objects", "count");
    put_value_type(writer, PROFILE_SAMPLE_TYPE, "inuse_space", "bytes");
    put_value_type(writer, PROFILE_PERIOD_TYPE, "space", "bytes");
    put_mappings(writer);
    for (size_t i = 0; i < writer->profile->site_count; i++) {
        put_site(writer, &writer->profile->sites[i], measure, bytes_text);
    }
    put_number(&writer->out, PROFILE_TIME_NS,
               (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
    put_number(&writer->out, PROFILE_PERIOD, writer->profile->interval);
    put_number(&writer->out, PROFILE_DEFAULT_TYPE,
               text(writer, measure == BERTH_PROFILE_ALLOCATED ? "alloc_space" : "inuse_space"));
    put(&writer->out, writer->strings.at, writer->strings.length);
}

/* ---- the file ---- */

#if BERTH_ZLIB
static bool write_compressed(FILE *to, const struct bytes *bytes) {
    enum { GZIP = 16 };
    z_stream stream = {0};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, MAX_WBITS + GZIP, 8,
                     Z_DEFAULT_STRATEGY) != Z_OK) {
        return false;
    }
    stream.next_in = bytes->at;
    stream.avail_in = (uInt)bytes->length;
    int status = Z_OK;
    while (status == Z_OK) {
        unsigned char piece[16 << 10];
        stream.next_out = piece;
        stream.avail_out = sizeof(piece);
        status = deflate(&stream, Z_FINISH);
        fwrite(piece, 1, sizeof(piece) - stream.avail_out, to);
    }
    deflateEnd(&stream);
    return status == Z_STREAM_END;
}
#else
/* pprof reads it as it is, too. */
static bool write_compressed(FILE *to, const struct bytes *bytes) {
    return fwrite(bytes->at, 1, bytes->length, to) == bytes->length;
}
#endif

bool berth__profile_write_pprof(FILE *to, struct berth__profile *profile,
                                enum berth__profile_measure measure) {
    struct writer writer = {.profile = profile};
    put_profile(&writer, measure);
    bool done = !writer.out.failed && !writer.strings.failed && !writer.functions.failed &&
                !writer.locations.failed && write_compressed(to, &writer.out);
    free(writer.out.at);
    free(writer.message.at);
    free(writer.inner.at);
    free(writer.strings.at);
    free(writer.functions.slots);
    free(writer.locations.slots);
    return done;
}
