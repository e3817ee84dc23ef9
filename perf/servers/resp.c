#include "resp.h"

#include <string.h>
#include <strings.h>

enum { LINE_MAX_BYTES = 24 };

/* The number of a line such as "$12": 1, with where the next begins; 0 or -1 as resp_read. */
static int read_line(const struct stream *in, uint64_t at, char mark, uint64_t most,
                     uint64_t *number, uint64_t *next) {
    char line[LINE_MAX_BYTES];
    uint64_t there = stream_length(in) - at;
    size_t length = there < sizeof(line) ? (size_t)there : sizeof(line);
    stream_peek(in, at, line, length);
    if (length == 0) {
        return 0;
    }
    size_t i = 1;
    for (*number = 0; i < length && line[i] >= '0' && line[i] <= '9'; i++) {
        *number = *number * 10 + (uint64_t)(line[i] - '0');
        if (*number > most) {
            return -1;
        }
    }
    if (line[0] != mark || (i < length && (i == 1 || line[i] != '\r'))) {
        return -1;
    }
    if (i + 1 >= length) {
        return length < sizeof(line) ? 0 : -1;
    }
    *next = at + i + 2;
    return 1;
}

/* A line of text instead of a list of words. */
static int read_inline(const struct stream *in, uint64_t from, struct resp_command *command) {
    int64_t end = stream_find(in, from, "\r\n", 2);
    if (end < 0) {
        return stream_length(in) - from > 65536 ? -1 : 0;
    }
    command->words = 0;
    command->length = (uint64_t)end + 2 - from;
    return 1;
}

int resp_read(const struct stream *in, uint64_t from, struct resp_command *command) {
    char first;
    uint64_t words, at;
    if (from >= stream_length(in)) {
        return 0;
    }
    stream_peek(in, from, &first, 1);
    if (first != '*') {
        return read_inline(in, from, command);
    }
    int result = read_line(in, from, '*', 1 << 20, &words, &at);
    for (uint64_t i = 0; result == 1 && i < words; i++) {
        uint64_t length;
        result = at > stream_length(in) ? 0 : read_line(in, at, '$', RESP_LENGTH_MAX, &length, &at);
        if (result == 1 && i < RESP_WORDS_MAX) {
            command->word[i].offset = at;
            command->word[i].length = length;
        }
        at += result == 1 ? length + 2 : 0;
    }
    if (result != 1 || at > stream_length(in)) {
        return result == -1 ? -1 : 0;
    }
    command->words = (unsigned)words;
    command->length = at - from;
    return 1;
}

bool resp_is(const struct stream *in, const struct resp_command *command, unsigned word,
             const char *text) {
    char there[16];
    size_t length = strlen(text);
    if (word >= command->words || command->word[word].length != length) {
        return false;
    }
    stream_peek(in, command->word[word].offset, there, length);
    return strncasecmp(there, text, length) == 0;
}
