#include "pool/gauge.h"

#include "pool/api.h"

static _Atomic int64_t gauges[BERTH_GAUGE_COUNT];

void berth__do_gauge_add(unsigned gauge, int64_t more) {
    if (gauge < BERTH_GAUGE_COUNT) {
        berth__add_relaxed(&gauges[gauge], more);
    }
}

int64_t berth__gauge_read(enum berth__gauge gauge) {
    int64_t value = berth__load_relaxed(&gauges[gauge]);
    return value > 0 ? value : 0;
}
