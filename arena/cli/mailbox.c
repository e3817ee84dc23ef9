#include "cli/mailbox.h"

#include "os/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum { PAUSE_NS = 5000000 };

struct asker {
    int memory;
    uint64_t page;
    off_t at; /* of the mailbox */
    uint64_t give_up_ns;
};

static bool is_late(const struct asker *asker) {
    struct timespec pause = {.tv_nsec = PAUSE_NS};
    if (berth__clock_ns() >= asker->give_up_ns) {
        return true;
    }
    nanosleep(&pause, NULL);
    return false;
}

/* One asker at a time looks and writes. Who has the lock may have been stopped. */
static int take_turn(const struct asker *asker) {
    while (flock(asker->memory, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) {
            return -errno;
        }
        if (is_late(asker)) {
            return -EBUSY;
        }
    }
    return 0;
}

static int read_mail(const struct asker *asker, struct berth__stats_mail *mail) {
    errno = 0;
    if (pread(asker->memory, mail, sizeof(*mail), asker->at) == (ssize_t)sizeof(*mail)) {
        return 0;
    }
    return errno == 0 ? -ESRCH : -errno;
}

static int write_mail(const struct asker *asker, const struct berth__stats_mail *mail) {
    size_t asked = offsetof(struct berth__stats_mail, asked);
    uint64_t ticket = mail->ticket;
    bool left = pwrite(asker->memory, mail, asked, asker->at) == (ssize_t)asked &&
                pwrite(asker->memory, &ticket, sizeof(ticket), asker->at + (off_t)asked) ==
                    (ssize_t)sizeof(ticket);
    return left ? 0 : errno == 0 ? -ESRCH : -errno;
}

/* The ticket under which the request lies in the mailbox now. */
static int leave(const struct asker *asker, uint32_t command, uint64_t argument, uint64_t *ticket) {
    struct berth__stats_mail mail;
    int error = read_mail(asker, &mail);
    if (error != 0) {
        return error;
    }
    if (mail.asked != mail.answered) {
        *ticket = mail.asked;
        return mail.command == command && mail.argument == argument ? 0 : -EBUSY;
    }
    *ticket = berth__clock_ns();
    mail = (struct berth__stats_mail){.ticket = *ticket, .command = command, .argument = argument};
    return write_mail(asker, &mail);
}

/* A page that was too small is replaced by a larger one, and nobody looks at the old one again. */
static bool page_was_replaced(const struct asker *asker) {
    uint64_t magic = 0;
    return pread(asker->memory, &magic, sizeof(magic), (off_t)asker->page) ==
               (ssize_t)sizeof(magic) &&
           magic != BERTH_STATS_MAGIC;
}

static int await_answer(const struct asker *asker, uint64_t ticket, int64_t *result) {
    for (;;) {
        struct berth__stats_mail mail;
        int error = read_mail(asker, &mail);
        if (error != 0) {
            return error;
        }
        if (mail.answered == ticket) {
            *result = mail.result;
            return 0;
        }
        if (is_late(asker)) {
            return page_was_replaced(asker) ? -ESTALE : 1;
        }
    }
}

int berth__mailbox_ask(const struct berth__process *process, uint32_t command, uint64_t argument,
                       unsigned wait_ms, int64_t *result) {
    char path[64];
    uint64_t ticket = 0;
    if (process->stats.mail == 0) {
        return -ENOTSUP;
    }
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)process->pid);
    struct asker asker = {.memory = open(path, O_RDWR | O_CLOEXEC),
                          .page = process->page,
                          .at = (off_t)(process->page + process->stats.mail),
                          .give_up_ns = berth__clock_ns() + wait_ms * UINT64_C(1000000)};
    if (asker.memory < 0) {
        return -errno;
    }
    int outcome = take_turn(&asker);
    if (outcome == 0) {
        outcome = leave(&asker, command, argument, &ticket);
        (void)flock(asker.memory, LOCK_UN);
    }
    if (outcome == 0) {
        outcome = await_answer(&asker, ticket, result);
    }
    close(asker.memory);
    return outcome;
}

const char *berth__mailbox_error(int outcome) {
    switch (outcome) {
    case -EBUSY: return "it has not carried out the request before this one yet";
    case -ESTALE: return "its stats page was replaced meanwhile: ask again";
    case -ESRCH: return "it has ended";
    default: return strerror(-outcome);
    }
}
