#include "heap/sample_draw.h"

#include <string.h>

/* xorshift64*: S. Vigna, "An experimental exploration of Marsaglia's xorshift generators,
 * scrambled", 2014. */
static uint64_t next_random(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(0x2545f4914f6cdd1d);
}

/* In (0, 1]. */
static double next_uniform(uint64_t *state) {
    return (double)((next_random(state) >> 11) + 1) * 0x1p-53;
}

/* -ln(u) for 0 < u <= 1: by the exponent, and the series of the inverse hyperbolic tangent for a
 * mantissa in [sqrt(1/2), sqrt(2)), whose first term that is left out is below 1e-9. */
static double minus_ln(double u) {
    const double ln_2 = 0.693147180559945309;
    uint64_t bits;
    memcpy(&bits, &u, sizeof(bits));
    int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
    bits = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1023) << 52;
    double mantissa;
    memcpy(&mantissa, &bits, sizeof(mantissa));
    if (mantissa > 1.4142135623730951) {
        mantissa /= 2;
        exponent++;
    }
    double s = (mantissa - 1) / (mantissa + 1);
    double square = s * s;
    double series = 1 + square * (1.0 / 3 + square * (1.0 / 5 + square * (1.0 / 7 + square / 9)));
    return -(exponent * ln_2 + 2 * s * series);
}

int64_t berth__sample_distance(uint64_t *random, uint64_t interval) {
    double distance = minus_ln(next_uniform(random)) * (double)interval;
    return distance < 0x1p62 ? (int64_t)distance : (int64_t)1 << 62;
}

/* exp(-x) >= 1 - x, so most draws need no logarithm. */
uint32_t berth__sample_draw(uint64_t *random, uint64_t interval, size_t size, uint32_t count) {
    double u = next_uniform(random);
    double reach = (double)size * count / (double)interval;
    if (BERTH_LIKELY(u <= 1 - reach)) {
        return count;
    }
    double blocks = minus_ln(u) * (double)interval / (double)size;
    return blocks < count ? (uint32_t)blocks : count;
}

/* 1 - exp(-x): the series for a small x, then 1 - exp(-2x) = p (2 - p) as often as it was halved.
 */
double berth__sample_probability(uint64_t bytes, uint64_t interval) {
    double x = (double)bytes / (double)interval;
    unsigned halved = 0;
    if (x > 40) {
        return 1;
    }
    while (x > 0.25) {
        x /= 2;
        halved++;
    }
    double p =
        x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5 * (1 - x / 6 * (1 - x / 7))))));
    for (; halved > 0; halved--) {
        p *= 2 - p;
    }
    return p;
}

void berth__sample_weigh(struct berth__sample *sample, size_t drawn, uint64_t interval) {
    double p = berth__sample_probability(drawn, interval);
    sample->count = (uint64_t)(BERTH_SAMPLE_ONE / p + 0.5);
    sample->weight = (uint64_t)((double)sample->bytes / p + 0.5);
}

uint64_t berth__sample_requested(const struct berth__sample *sample) {
    return (uint64_t)((double)sample->requested * (double)sample->count / BERTH_SAMPLE_ONE);
}
