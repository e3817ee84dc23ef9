/*
 * The commands of Redis's protocol, as far as a proxy looks into them: how long one is, and where
 * its first words are.
 */
#ifndef BERTH_PERF_SERVERS_RESP_H
#define BERTH_PERF_SERVERS_RESP_H

#include "stream.h"

enum { RESP_WORDS_MAX = 3, RESP_LENGTH_MAX = 512 << 20 };

struct resp_command {
    uint64_t length;
    unsigned words; /* all of them; the first are described */
    struct {
        uint64_t offset, length;
    } word[RESP_WORDS_MAX];
};

/* The command at the beginning of a stream: 1; 0: more bytes are needed; -1: it is none. */
int resp_read(const struct stream *in, uint64_t from, struct resp_command *command);

/* True if a word is this one, in any case of letters. */
bool resp_is(const struct stream *in, const struct resp_command *command, unsigned word,
             const char *text);

#endif
