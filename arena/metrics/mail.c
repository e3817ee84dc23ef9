#include "metrics/mail.h"

#include "heap/decay.h"
#include "heap/engine.h"
#include "heap/fork.h"
#include "heap/request.h"
#include "heap/sample.h"
#include "pool/api.h"
#include "pool/limit.h"

#include <errno.h>

/* Not berth_trim, which may make a thread: this may be inside malloc. */
static int64_t trim(void) {
    size_t returned = 0;
    struct berth__arenas *arenas = NULL;
    while ((arenas = berth__engine_next(arenas)) != NULL) {
        returned += berth__reclaim_all(arenas);
    }
    return (int64_t)returned;
}

static int64_t carry_out(uint32_t command, uint64_t argument) {
    switch (command) {
    case BERTH_MAIL_TRIM: return trim();
    case BERTH_MAIL_LIMIT: return berth__do_limit_set(argument);
    case BERTH_MAIL_DECAY_MS:
        if (argument > UINT32_MAX - 1) {
            return -EINVAL;
        }
        berth__decay_set_ms((uint32_t)argument);
        return 0;
    case BERTH_MAIL_SAMPLE:
        if (argument > INT64_MAX) {
            return -EINVAL;
        }
        berth__sample_set(argument);
        return 0;
    default: return -ENOSYS;
    }
}

void berth__mail_look(struct berth__stats_mail *mail) {
    static _Atomic uint64_t taken; /* the latest ticket */
    uint64_t asked = berth__load_acquire(&mail->asked);
    uint64_t before = berth__load_relaxed(&taken);
    if (BERTH_LIKELY(asked == 0 || asked == before) || mail->ticket != asked ||
        berth__fork_must_detour() || !berth__cas_acquire(&taken, &before, asked)) {
        return;
    }
    int saved_errno = errno;
    int64_t result = carry_out(mail->command, mail->argument);
    errno = saved_errno;
    berth__store_release(&mail->result, result);
    berth__store_release(&mail->answered, asked);
}
