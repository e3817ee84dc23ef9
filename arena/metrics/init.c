/*
 * The stats page and the profile at a failure, from when the library is loaded; and what is written
 * when the process ends: the metrics on stderr (stats_print), heap profiles.
 */
#include "metrics/final.h"
#include "metrics/page.h"
#include "pool/api.h"
#include "pool/event.h"
#include "pool/options.h"
#include "pool/pool.h"

#include <berth/metrics.h>
#include <berth/version.h>

#include <unistd.h>

#define TEXT_OF(x) #x
#define VERSION_TEXT(major, minor, patch) TEXT_OF(major) "." TEXT_OF(minor) "." TEXT_OF(patch)

const char *berth__do_version(void) {
    return VERSION_TEXT(BERTH_VERSION_MAJOR, BERTH_VERSION_MINOR, BERTH_VERSION_PATCH);
}

__attribute__((constructor)) static void at_load(void) {
    berth__stats_init();
    berth__store_release(&berth__failure_hook, berth__failure_profile);
}

__attribute__((destructor)) static void at_exit(void) {
    if (berth__default_arenas() == NULL) {
        return;
    }
    if (berth__options_get()->value[BERTH_OPTION_stats_print] != 0) {
        (void)berth__do_metrics_write_fd(STDERR_FILENO, BERTH_METRICS_TEXT, BERTH_METRICS_ALL);
    }
    berth__final_profile();
}
