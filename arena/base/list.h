/*
 * Intrusive doubly linked lists with a sentinel: O(1) insertion and removal, no allocation.
 *
 * Not thread-safe; the structure that holds the list says which lock guards it.
 */
#ifndef BERTH_BASE_LIST_H
#define BERTH_BASE_LIST_H

#include "base/compiler.h"

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
    berth__list_init(link);
}

BERTH_INLINE struct berth__list *berth__list_first(const struct berth__list *list) {
    return berth__list_empty(list) ? NULL : list->next;
}

#endif
