/*
 * Intrusive doubly linked lists with a sentinel: O(1) insertion and removal, no allocation.
 *
 * Not thread-safe; the structure that holds the list says which lock guards it.
 *
 * Between any two stores of a change, a walk by `next` finds a whole list: with the member that is
 * inserted or removed, or without it. So where a change was cut off for good, in the child of a
 * fork, the list can be mended. The fences are for the compiler, and cost nothing.
 */
#ifndef BERTH_BASE_LIST_H
#define BERTH_BASE_LIST_H

#include "base/compiler.h"

#include <stdatomic.h>

struct berth__list {
    struct berth__list *next, *prev; /* a list head, or a member's link; never NULL while linked */
};

#define BERTH_LIST_ENTRY(link, type, member) BERTH_CONTAINER_OF(link, type, member)

BERTH_INLINE void berth__list_init(struct berth__list *list) {
    list->next = list;
    list->prev = list;
}

BERTH_INLINE bool berth__list_empty(const struct berth__list *list) {
    return list->next == list;
}

BERTH_INLINE void berth__list_insert_between(struct berth__list *link, struct berth__list *before,
                                             struct berth__list *after) {
    link->prev = before;
    link->next = after;
    atomic_signal_fence(memory_order_release);
    before->next = link;
    after->prev = link;
}

BERTH_INLINE void berth__list_push_front(struct berth__list *list, struct berth__list *link) {
    berth__list_insert_between(link, list, list->next);
}

BERTH_INLINE void berth__list_push_back(struct berth__list *list, struct berth__list *link) {
    berth__list_insert_between(link, list->prev, list);
}

/* The link is left pointing at itself: removing it twice is harmless. */
BERTH_INLINE void berth__list_remove(struct berth__list *link) {
    link->prev->next = link->next;
    link->next->prev = link->prev;
    atomic_signal_fence(memory_order_release);
    berth__list_init(link);
}

/* After a change that was cut off. The member that it was about may be left with links to others:
 * removing it does no harm until the list is changed. */
BERTH_INLINE void berth__list_mend(struct berth__list *list) {
    struct berth__list *at = list;
    do {
        at->next->prev = at;
        at = at->next;
    } while (at != list);
}

BERTH_INLINE struct berth__list *berth__list_first(const struct berth__list *list) {
    return berth__list_empty(list) ? NULL : list->next;
}

#endif
