#include "base/text.h"

#include <string.h>

void berth__text_init(struct berth__text *text, char *buffer, size_t capacity) {
    text->buffer = buffer;
    text->capacity = capacity;
    text->length = 0;
    text->overflow = false;
    buffer[0] = '\0';
}

void berth__text_bytes(struct berth__text *text, const char *bytes, size_t count) {
    size_t room = text->capacity - 1 - text->length;
    if (count > room) {
        count = room;
        text->overflow = true;
    }
    memcpy(text->buffer + text->length, bytes, count);
    text->length += count;
    text->buffer[text->length] = '\0';
}

void berth__text_char(struct berth__text *text, char c) {
    berth__text_bytes(text, &c, 1);
}

void berth__text_string(struct berth__text *text, const char *string) {
    berth__text_bytes(text, string, strlen(string));
}

static void in_base(struct berth__text *text, uint64_t value, unsigned base) {
    char digits[20]; /* 2^64 has 20 decimal digits */
    size_t at = sizeof(digits);
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    berth__text_bytes(text, digits + at, sizeof(digits) - at);
}

void berth__text_uint(struct berth__text *text, uint64_t value) {
    in_base(text, value, 10);
}

void berth__text_int(struct berth__text *text, int64_t value) {
    if (value < 0) {
        berth__text_char(text, '-');
    }
    in_base(text, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, 10);
}

void berth__text_hex(struct berth__text *text, uint64_t value) {
    berth__text_string(text, "0x");
    in_base(text, value, 16);
}

/* One conversion; returns the number of characters of the format after the % that it used. */
static size_t convert(struct berth__text *text, const char *spec, va_list *args) {
    switch (spec[0]) {
    case '\0': return 0;
    case 's': berth__text_string(text, va_arg(*args, const char *)); return 1;
    case 'c': berth__text_char(text, (char)va_arg(*args, int)); return 1;
    case 'd': berth__text_int(text, va_arg(*args, int)); return 1;
    case 'u': berth__text_uint(text, va_arg(*args, unsigned)); return 1;
    case 'p': berth__text_hex(text, (uintptr_t)va_arg(*args, void *)); return 1;
    case '%': berth__text_char(text, '%'); return 1;
    case 'z':
    case 'l': berth__text_uint(text, va_arg(*args, unsigned long)); return 2;
    default: berth__text_char(text, '?'); return 1;
    }
}

void berth__text_format_args(struct berth__text *text, const char *format, va_list args) {
    va_list walk;
    va_copy(walk, args);
    while (*format != '\0') {
        size_t literal = strcspn(format, "%");
        berth__text_bytes(text, format, literal);
        format += literal;
        if (*format == '%') {
            format += 1 + convert(text, format + 1, &walk);
        }
    }
    va_end(walk);
}

void berth__text_format(struct berth__text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    berth__text_format_args(text, format, args);
    va_end(args);
}

/* Bits to shift by for a unit, or -1 if the text is no unit. */
static int unit_shift(const char *unit, size_t length) {
    static const char letters[] = "KMGT";
    if (length == 0) {
        return 0;
    }
    char letter = (char)(unit[0] >= 'a' && unit[0] <= 'z' ? unit[0] - 'a' + 'A' : unit[0]);
    const char *found = strchr(letters, letter);
    bool tail_ok = length == 1 || (length == 2 && (unit[1] == 'B' || unit[1] == 'b')) ||
                   (length == 3 && unit[1] == 'i' && unit[2] == 'B');
    if (found == NULL || letter == '\0' || !tail_ok) {
        return -1;
    }
    return 10 * (int)(found - letters + 1);
}

bool berth__parse_size(const char *text, size_t length, uint64_t *value) {
    uint64_t number = 0;
    size_t digits = 0;
    for (; digits < length && text[digits] >= '0' && text[digits] <= '9'; digits++) {
        uint64_t digit = (uint64_t)(text[digits] - '0');
        if (number > (UINT64_MAX - digit) / 10) {
            return false;
        }
        number = number * 10 + digit;
    }
    int shift = unit_shift(text + digits, length - digits);
    if (digits == 0 || shift < 0 || (shift > 0 && number >> (64 - shift) != 0)) {
        return false;
    }
    *value = number << shift;
    return true;
}
