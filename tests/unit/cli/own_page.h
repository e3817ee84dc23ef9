/*
 * This process's own stats page, as the tool would read another one's.
 */
#ifndef BERTH_UNIT_OWN_PAGE_H
#define BERTH_UNIT_OWN_PAGE_H

#include "unit.h"

#include "cli/process.h"
#include "metrics/page.h"

#include <berth/berth.h>

#include <string.h>

/* Waits until there is one. */
static inline void unit_read_own_page(struct berth__process *self) {
    for (unsigned i = 0; i < 4000 && berth__stats_page() == NULL; i++) {
        UNIT_CHECK(berth_alloc(berth_pool_default(), 100) != NULL);
        usleep(5000);
        berth_trim(NULL);
    }
    const struct berth__stats_head *head = berth__stats_page();
    UNIT_CHECK(head != NULL);
    size_t bytes = head->used_bytes;
    self->copy = malloc(bytes);
    memcpy(self->copy, (const void *)head, bytes);
    UNIT_CHECK(berth__stats_read(&self->stats, self->copy, bytes) == BERTH_PAGE_SOUND);
    self->pid = getpid();
}

#endif
