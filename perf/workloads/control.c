/*
 * control: no allocation at all, only arithmetic. Punishes nothing: its spread over the rounds is
 * the noise of the machine, below which no difference between allocators means anything.
 */
#include "load.h"

static void control_worker(struct worker *worker) {
    const uint64_t *steps = worker->shared;
    for (uint64_t i = 0; i < *steps; i++)
        rng_next(&worker->rng);
    if (worker->rng.state == 0) /* so that the loop is not removed */
        load_fail("the generator stands still");
}

void control_run(const struct load_args *args) {
    uint64_t steps = load_work(args, 300000000);
    meter_operations(steps * args->threads);
    workers_run(args->threads, control_worker, &steps);
}
