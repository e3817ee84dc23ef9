#include "watches.h"

#include <stddef.h>
#include <stdio.h>

struct loop_counts loop_counts;

static struct watch *all, *ended;

void watches_add(struct watch *watch) {
    watch->next = all;
    watch->link = &all;
    if (all != NULL) {
        all->link = &watch->next;
    }
    all = watch;
}

void watches_end(struct watch *watch) {
    *watch->link = watch->next;
    if (watch->next != NULL) {
        watch->next->link = watch->link;
    }
    watch->next = ended;
    ended = watch;
}

void watches_free_ended(void) {
    while (ended != NULL) {
        struct watch *watch = ended;
        ended = watch->next;
        watch->ended(watch);
    }
}

void watches_end_all(void) {
    while (all != NULL) {
        loop_end(all);
    }
}

void loop_report(const char *more) {
    printf("{\"connections\": %ju, \"messages\": %ju, \"bytes\": %ju%s%s}\n",
           (uintmax_t)loop_counts.connections, (uintmax_t)loop_counts.messages,
           (uintmax_t)loop_counts.bytes, more[0] == '\0' ? "" : ", ", more);
}
