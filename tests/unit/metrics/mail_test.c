/* Commands in the mailbox of the stats page: each is carried out once, and only if it is whole. */
#include "figures.h"

#include "metrics/mail.h"

#include <errno.h>

static struct berth__stats_mail mail;
static uint64_t latest_ticket;

static void leave(uint32_t command, uint64_t argument) {
    mail.ticket = ++latest_ticket;
    mail.command = command;
    mail.argument = argument;
    berth__store_release(&mail.asked, latest_ticket);
}

static int64_t answer_to(uint32_t command, uint64_t argument) {
    leave(command, argument);
    berth__mail_look(&mail);
    assert_true(berth__load_acquire(&mail.answered) == latest_ticket);
    return berth__load_relaxed(&mail.result);
}

static void commands_do_what_the_calls_do(void **state) {
    /* Who changes a running server would change nothing, or something else. */
    (void)state;
    void *block = berth_alloc(berth_pool_default(), 3 * MiB);
    memset(block, 1, 3 * MiB);
    berth_free(block);
    assert_int_equal(answer_to(BERTH_MAIL_LIMIT, 64 * MiB), 0);
    assert_true(berth_limit_get() == 64 * MiB);
    assert_int_equal(answer_to(BERTH_MAIL_DECAY_MS, 0), 0);
    assert_true(answer_to(BERTH_MAIL_TRIM, 0) > 0);
    assert_int_equal(answer_to(BERTH_MAIL_LIMIT, UINT64_MAX), 0);
    assert_true(berth_limit_get() == BERTH_UNLIMITED);
}

static void what_cannot_be_is_answered_with_an_error(void **state) {
    /* A newer tool would wait for an older process. */
    (void)state;
    assert_int_equal(answer_to(BERTH_MAIL_LIMIT, 0), -EINVAL);
    assert_int_equal(answer_to(BERTH_MAIL_DECAY_MS, UINT64_MAX), -EINVAL);
    assert_int_equal(answer_to(99, 0), -ENOSYS);
}

static void half_a_command_is_left_alone(void **state) {
    /* Of two askers at once, one's limit would be set with the other's ticket. */
    (void)state;
    leave(BERTH_MAIL_LIMIT, 5 * MiB);
    mail.ticket++; /* by another asker, who has not said so yet */
    uint64_t answered = mail.answered;
    berth__mail_look(&mail);
    assert_true(mail.answered == answered && berth_limit_get() == BERTH_UNLIMITED);
    mail.ticket--;
    berth__mail_look(&mail);
    assert_true(mail.answered == latest_ticket && berth_limit_get() == 5 * MiB);
    mail.answered = 0; /* it is not carried out again */
    berth__mail_look(&mail);
    assert_true(mail.answered == 0);
    assert_int_equal(berth_limit_set(BERTH_UNLIMITED), 0);
}

enum { THREADS = 4, LOOKS = 2000 };

static void *look(void *unused) {
    for (unsigned i = 0; i < LOOKS; i++) {
        berth__mail_look(&mail);
    }
    return unused;
}

static void many_threads_look_and_one_takes_it(void **state) {
    /* A trim would be done by every thread of a server at the same time. */
    (void)state;
    pthread_t threads[THREADS];
    leave(BERTH_MAIL_TRIM, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, look, NULL), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_true(mail.answered == latest_ticket);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_do_what_the_calls_do),
        cmocka_unit_test(what_cannot_be_is_answered_with_an_error),
        cmocka_unit_test(half_a_command_is_left_alone),
        cmocka_unit_test(many_threads_look_and_one_takes_it),
    };
    return UNIT_RUN(tests);
}
