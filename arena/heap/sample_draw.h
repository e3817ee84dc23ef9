/*
 * Drawing samples, and what they stand for.
 *
 * Samples fall on allocated bytes with a mean distance of `interval`, exponentially distributed: so
 * each byte is as likely as any other, whatever was drawn before. A block of S bytes is sampled if
 * at least one falls on it, with the probability p = 1 - exp(-S / interval), and then stands for
 * 1 / p blocks of S bytes.
 *
 * Arithmetic only; no libm, which the malloc door must not depend on.
 */
#ifndef BERTH_HEAP_SAMPLE_DRAW_H
#define BERTH_HEAP_SAMPLE_DRAW_H

#include "heap/sample_format.h"

/* Of `count` blocks of `size` bytes each, the number of the first that is sampled; `count` if none
 * is. The state of the random numbers must not be 0. */
uint32_t berth__sample_draw(uint64_t *random, uint64_t interval, size_t size, uint32_t count);

/* Bytes from one sample to the next. */
int64_t berth__sample_distance(uint64_t *random, uint64_t interval);

/* The probability that a block is sampled. */
double berth__sample_probability(uint64_t bytes, uint64_t interval);

/* Sets what a sample stands for that was drawn by so many bytes. */
void berth__sample_weigh(struct berth__sample *sample, size_t drawn, uint64_t interval);

/* Bytes that were asked for, over the blocks that it stands for. */
uint64_t berth__sample_requested(const struct berth__sample *sample);

#endif
