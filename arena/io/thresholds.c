#include "io/thresholds.h"

#include "pool/options.h"

static struct berth__thresholds thresholds;

struct berth__thresholds berth__thresholds(void) {
    return thresholds;
}

__attribute__((constructor)) static void at_load(void) {
    struct berth__options options;
    berth__options_peek(&options);
    thresholds = (struct berth__thresholds){
        .zerocopy = options.is_set[BERTH_OPTION_zerocopy_min]
                        ? (size_t)options.value[BERTH_OPTION_zerocopy_min]
                        : 0,
        .send_zc = (size_t)options.value[BERTH_OPTION_send_zc_min],
        .fixed = (size_t)options.value[BERTH_OPTION_fixed_min],
    };
}
