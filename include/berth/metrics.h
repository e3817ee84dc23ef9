/* What the memory is doing, in figures. */
#ifndef BERTH_METRICS_H
#define BERTH_METRICS_H

#include <berth/pool.h>

#endif
