/*
 * Comparing, searching, and showing bytes.
 */
#include "buffer/search.h"
#include "buffer/owner.h"

#include "base/bits.h"

#include <errno.h>
#include <string.h>

int berth__bytes_compare(const void *a, size_t a_length, const void *b, size_t b_length) {
    size_t common = berth__min(a_length, b_length);
    int order = common == 0 ? 0 : memcmp(a, b, common);
    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

size_t berth__bytes_find(const void *bytes, size_t length, size_t from, const void *needle,
                         size_t count) {
    if (from > length || count > length - from) {
        return SIZE_MAX;
    }
    if (count == 0) {
        return from;
    }
    const char *start = bytes;
    const char *at = memmem(start + from, length - from, needle, count);
    return at == NULL ? SIZE_MAX : (size_t)(at - start);
}

int berth_slice_compare(const struct berth_slice *a, const struct berth_slice *b) {
    (void)berth__slice_owner(a);
    (void)berth__slice_owner(b);
    return berth__bytes_compare(a->data, a->length, b->data, b->length);
}

int64_t berth_slice_find(const struct berth_slice *slice, size_t from, const void *bytes,
                         size_t count) {
    (void)berth__slice_owner(slice);
    size_t at = berth__bytes_find(slice->data, slice->length, from, bytes, count);
    return at == SIZE_MAX ? -ENOENT : (int64_t)at;
}

/* ---- hex dump ----
 *
 * 00000010  48 65 6c 6c 6f 2c 20 62  65 72 74 68 21 0a        |Hello, berth!.|
 */

enum { DUMP_LINE_BYTES = 16, DUMP_TEXT_MAX = 8 + 2 + DUMP_LINE_BYTES * 3 + 2 + 18 + 2 };

/* One line into text[0..DUMP_TEXT_MAX); its length. */
static size_t dump_line(uint32_t offset, const unsigned char *bytes, size_t count, char *text) {
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;
    for (unsigned shift = 32; shift > 0; shift -= 4) {
        text[at++] = digits[(offset >> (shift - 4)) & 15];
    }
    text[at++] = ' ';
    memset(text + at, ' ', DUMP_TEXT_MAX - at);
    for (size_t i = 0; i < DUMP_LINE_BYTES; i++) {
        at += i % 8 == 0;
        if (i < count) {
            text[at] = digits[bytes[i] >> 4];
            text[at + 1] = digits[bytes[i] & 15];
        }
        at += 3;
    }
    at++;
    text[at++] = '|';
    for (size_t i = 0; i < count; i++) {
        text[at] = '.';
        if (bytes[i] >= 0x20 && bytes[i] < 0x7f) {
            text[at] = (char)bytes[i];
        }
        at++;
    }
    text[at++] = '|';
    text[at++] = '\n';
    return at;
}

size_t berth_hex_dump(const void *data, size_t length, char *text, size_t size) {
    const unsigned char *bytes = data;
    size_t needed = 0;
    size_t written = 0;
    for (size_t offset = 0; offset < length; offset += DUMP_LINE_BYTES) {
        char line[DUMP_TEXT_MAX];
        size_t count = berth__min(length - offset, DUMP_LINE_BYTES);
        size_t line_length = dump_line((uint32_t)offset, bytes + offset, count, line);
        needed += line_length;
        if (size > 0) {
            size_t fits = berth__min(line_length, size - 1 - written);
            memcpy(text + written, line, fits);
            written += fits;
        }
    }
    if (size > 0) {
        text[written] = '\0';
    }
    return needed;
}
