#include "io/sender.h"

#include "io/send.h"
#include "io/socket.h"
#include "io/thresholds.h"

#include "base/bits.h"
#include "os/clock.h"
#include "os/file.h"
#include "pool/api.h"

#include <errno.h>

enum {
    ENTRIES_MAX = 64, /* of one send that does not copy */
    COLLECT_AT = 32,  /* sends under way: the kernel's memory for notifications is bounded */
    NOTIFICATIONS_MAX = 1024,
    RESET_WAIT_MS = 1000,
};

berth_sender *berth_sender_create(berth_pool *pool, int fd, size_t threshold) {
    berth_sender *sender = berth_alloc(pool, sizeof(*sender));
    if (sender == NULL) {
        return NULL;
    }
    *sender = (berth_sender){
        .pool = pool,
        .fd = fd,
        .pace = berth__pace_of(berth__socket_enable_zero_copy(fd) == 0),
        .ways = berth__ways_of(threshold != 0 ? threshold : berth__thresholds().zerocopy),
        .flights = {.pool = pool},
    };
    return sender;
}

int berth_sender_fd(const berth_sender *sender) {
    return sender->fd;
}

unsigned berth_sender_in_flight(const berth_sender *sender) {
    return sender->flights.count;
}

/* ---- sending ---- */

/* -ENOBUFS: it is to be copied. */
static int64_t send_in_place(berth_sender *sender, const struct berth_chain *chain, uint64_t most,
                             uint64_t *offered) {
    struct iovec entries[ENTRIES_MAX];
    struct berth__batch batch = berth__batch_of(chain, entries, ENTRIES_MAX, most);
    if (batch.bytes < sender->ways.least || batch.bytes / batch.count < BERTH_AVERAGE_MIN) {
        return -ENOBUFS;
    }
    if (!berth_pool_flight_begin(sender->pool, batch.bytes)) {
        return -ENOBUFS; /* what is copied waits in the socket, whose room is bounded */
    }
    struct berth__flight *flight = berth__flights_prepare(&sender->flights, batch.count);
    if (flight == NULL) {
        berth_pool_flight_end(sender->pool, batch.bytes);
        berth__pace_crowd(&sender->pace);
        return -ENOBUFS;
    }
    int flags = MSG_ZEROCOPY | (batch.more ? MSG_MORE : 0);
    ssize_t sent = berth__socket_send(sender->fd, entries, batch.count, flags);
    berth_pool_flight_end(sender->pool, batch.bytes - (sent > 0 ? (uint64_t)sent : 0));
    if (sent <= 0) {
        berth_free(flight);
    } else {
        berth__flights_depart(&sender->flights, flight, chain, (uint64_t)sent);
    }
    if (sent == -ENOBUFS || sent == -ENOMEM) {
        berth__pace_crowd(&sender->pace);
        return -ENOBUFS;
    }
    *offered = batch.bytes;
    return sent;
}

/* How the next step is to send. */
static enum berth__way way_of(berth_sender *sender, const struct berth_chain *chain,
                              uint64_t most) {
    uint64_t bytes = berth__min(berth_chain_length(chain), most);
    bool can = bytes >= sender->ways.least && berth__pace_tries(&sender->pace);
    return can ? berth__ways_next(&sender->ways, bytes) : BERTH_WAY_COPY;
}

static int64_t send_timed(berth_sender *sender, const struct berth_chain *chain, uint64_t most,
                          uint64_t *offered, bool copies) {
    uint32_t number = sender->flights.next;
    uint64_t before_ns = berth__clock_ns();
    int64_t sent = copies ? berth__send_copying(sender->fd, chain, most, offered)
                          : send_in_place(sender, chain, most, offered);
    uint64_t ns = berth__clock_ns() - before_ns;
    if (sent > 0 && copies) {
        berth__ways_copied(&sender->ways, ns, (uint64_t)sent);
    } else if (sent > 0) {
        sender->timed.number = number;
        berth__ways_departed(&sender->ways, ns, (uint64_t)sent);
    }
    return sent;
}

static int64_t sender_step(void *context, const struct berth_chain *chain, uint64_t most,
                           uint64_t *offered) {
    berth_sender *sender = context;
    int64_t sent = -ENOBUFS;
    switch (way_of(sender, chain, most)) {
    case BERTH_WAY_COPY: break;
    case BERTH_WAY_COPY_TIMED: return send_timed(sender, chain, most, offered, true);
    case BERTH_WAY_IN_PLACE: sent = send_in_place(sender, chain, most, offered); break;
    case BERTH_WAY_IN_PLACE_TIMED: sent = send_timed(sender, chain, most, offered, false); break;
    }
    return sent == -ENOBUFS ? berth__send_copying(sender->fd, chain, most, offered) : sent;
}

int64_t berth_sender_send(berth_sender *sender, struct berth_chain *chain, uint64_t most) {
    if (sender->flights.count >= COLLECT_AT) {
        (void)berth_sender_collect(sender);
    }
    if (berth__min(berth_chain_length(chain), most) < sender->ways.least) {
        return berth_io_send(sender->fd, chain, most); /* nothing of it is long enough */
    }
    return berth__send_by(sender_step, sender, chain, most);
}

/* ---- notifications ---- */

void berth__sender_notified(berth_sender *sender, uint32_t first, uint32_t last, bool copied) {
    berth__pace_landed(&sender->pace, copied);
    if (sender->ways.state == BERTH_WAYS_ALOFT && sender->timed.number - first <= last - first) {
        sender->timed.has_landed = true;
        sender->timed.was_copied = copied;
    }
    (void)berth__flights_land(&sender->flights, first, last);
}

static void read_notifications(berth_sender *sender) {
    for (unsigned i = 0; i < NOTIFICATIONS_MAX && sender->flights.count > 0; i++) {
        struct berth__notification notification;
        int error = berth__socket_notification(sender->fd, &notification);
        if (error != 0 && error != -ENOMSG) {
            break;
        }
        if (error == 0) {
            berth__sender_notified(sender, notification.first, notification.last,
                                   notification.copied);
        }
    }
}

int berth_sender_collect(berth_sender *sender) {
    uint32_t before = sender->flights.count;
    bool compares = sender->ways.state == BERTH_WAYS_ALOFT;
    uint64_t before_ns = compares ? berth__clock_ns() : 0;
    read_notifications(sender);
    /* A callback of memory that landed may have sent more. */
    uint32_t landed = before > sender->flights.count ? before - sender->flights.count : 0;
    if (compares && sender->timed.has_landed) {
        sender->timed.has_landed = false;
        uint64_t ns = berth__clock_ns() - before_ns;
        berth__ways_landed(&sender->ways, ns / (landed > 0 ? landed : 1), sender->timed.was_copied);
    }
    return (int)landed;
}

/* ---- the end ---- */

int berth_sender_try_close(berth_sender *sender) {
    if (!sender->is_shut) {
        sender->is_shut = true;
        berth__socket_shut(sender->fd);
    }
    (void)berth_sender_collect(sender);
    if (sender->flights.count > 0) {
        return -EBUSY;
    }
    berth__flights_end(&sender->flights);
    berth__file_close(sender->fd);
    berth_free(sender);
    return 0;
}

void berth_sender_reset(berth_sender *sender) {
    sender->is_shut = true;
    berth__socket_disconnect(sender->fd);
}

/* Tries until a time. A socket that has an error or an end is always ready, and a wait for it none:
 * then it is a pause. */
static int close_until(berth_sender *sender, uint64_t deadline_ms) {
    int error;
    while ((error = berth_sender_try_close(sender)) == -EBUSY) {
        uint64_t now_ms = berth__clock_coarse_ms();
        if (now_ms >= deadline_ms) {
            break;
        }
        berth__socket_wait(sender->fd, deadline_ms - now_ms);
    }
    return error;
}

int berth_sender_close(berth_sender *sender, unsigned wait_ms) {
    if (close_until(sender, berth__clock_coarse_ms() + wait_ms) == 0) {
        return 0;
    }
    berth_sender_reset(sender);
    int error = close_until(sender, berth__clock_coarse_ms() + RESET_WAIT_MS);
    return error == 0 ? -ETIMEDOUT : error;
}
