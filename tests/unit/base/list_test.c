/* Doubly linked lists with a sentinel. */
#include "base/list.h"

#include "unit.h"

struct item {
    int value;
    struct berth__list link;
};

static int value_of(struct berth__list *link) {
    return BERTH_LIST_ENTRY(link, struct item, link)->value;
}

/* The values from front to back as one number, checked against the way back. */
static int digits(struct berth__list *list) {
    int forwards = 0;
    int backwards = 0;
    int weight = 1;
    for (struct berth__list *at = list->next; at != list; at = at->next) {
        forwards = forwards * 10 + value_of(at);
    }
    for (struct berth__list *at = list->prev; at != list; at = at->prev) {
        backwards += weight * value_of(at);
        weight *= 10;
    }
    assert_int_equal(forwards, backwards);
    return forwards;
}

static void members_stand_where_they_were_pushed(void **state) {
    /* The order of waiters, and of what decays first, would be broken. */
    (void)state;
    struct item items[4] = {{.value = 1}, {.value = 2}, {.value = 3}, {.value = 4}};
    struct berth__list list;
    berth__list_init(&list);
    assert_true(berth__list_empty(&list));
    assert_null(berth__list_first(&list));
    berth__list_push_back(&list, &items[1].link);
    berth__list_push_front(&list, &items[0].link);
    berth__list_push_back(&list, &items[2].link);
    berth__list_push_back(&list, &items[3].link);
    assert_int_equal(digits(&list), 1234);
    assert_int_equal(value_of(berth__list_first(&list)), 1);
    assert_false(berth__list_empty(&list));
}

static void a_member_leaves_from_any_place_and_leaving_twice_is_harmless(void **state) {
    /* Structures that are on no list are removed blindly: neighbours' links would be broken. */
    (void)state;
    struct item items[3] = {{.value = 1}, {.value = 2}, {.value = 3}};
    struct berth__list list;
    berth__list_init(&list);
    for (int i = 0; i < 3; i++) {
        berth__list_push_back(&list, &items[i].link);
    }
    berth__list_remove(&items[1].link);
    berth__list_remove(&items[1].link);
    assert_int_equal(digits(&list), 13);
    assert_true(berth__list_empty(&items[1].link));
    berth__list_remove(&items[2].link);
    assert_int_equal(digits(&list), 1);
    berth__list_push_front(&list, &items[1].link);
    assert_int_equal(digits(&list), 21);
    berth__list_remove(&items[1].link);
    berth__list_remove(&items[0].link);
    assert_true(berth__list_empty(&list));
}

static void a_list_whose_change_was_cut_off_can_be_mended(void **state) {
    /* The child of a fork would follow the links that the change had not come to. */
    (void)state;
    struct item items[3] = {{.value = 1}, {.value = 2}, {.value = 3}};
    struct berth__list list;
    berth__list_init(&list);
    berth__list_mend(&list);
    assert_true(berth__list_empty(&list));
    berth__list_push_back(&list, &items[0].link);
    berth__list_push_back(&list, &items[2].link);
    items[1].link = (struct berth__list){.next = &items[2].link, .prev = &items[0].link};
    berth__list_mend(&list);
    assert_int_equal(digits(&list), 13);
    items[0].link.next = &items[1].link; /* linked in, but for the way back */
    berth__list_mend(&list);
    assert_int_equal(digits(&list), 123);
    items[0].link.next = &items[2].link; /* taken out, likewise */
    berth__list_mend(&list);
    assert_int_equal(digits(&list), 13);
    berth__list_remove(&items[1].link);
    assert_int_equal(digits(&list), 13);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_stand_where_they_were_pushed),
        cmocka_unit_test(a_member_leaves_from_any_place_and_leaving_twice_is_harmless),
        cmocka_unit_test(a_list_whose_change_was_cut_off_can_be_mended),
    };
    return UNIT_RUN(tests);
}
