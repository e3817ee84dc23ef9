#include "io/flights.h"

#include "base/check.h"
#include "buffer/chain.h"
#include "pool/api.h"
#include "pool/gauge.h"

static struct berth__flight **place_of(const struct berth__flights *flights, uint32_t number) {
    return &flights->ring[number & (flights->capacity - 1)];
}

static bool is_under_way(const struct berth__flights *flights, uint32_t number) {
    return number - flights->oldest < flights->next - flights->oldest;
}

/* A place for the next number. */
static bool reserve(struct berth__flights *flights) {
    enum { FIRST = 8 };
    uint32_t window = flights->next - flights->oldest;
    if (window < flights->capacity) {
        return true;
    }
    if (window == BERTH_FLIGHTS_MAX) {
        return false;
    }
    struct berth__flights larger = *flights;
    larger.capacity = flights->capacity == 0 ? FIRST : 2 * flights->capacity;
    larger.ring = berth_alloc(flights->pool, larger.capacity * sizeof(*larger.ring));
    if (larger.ring == NULL) {
        return false;
    }
    for (uint32_t number = flights->oldest; number != flights->next; number++) {
        *place_of(&larger, number) = *place_of(flights, number);
    }
    berth_free(flights->ring);
    *flights = larger;
    return true;
}

struct berth__flight *berth__flights_prepare(struct berth__flights *flights, unsigned slices) {
    struct berth__flight *flight = NULL;
    if (reserve(flights)) {
        flight = berth_alloc(flights->pool, sizeof(*flight) + slices * sizeof(flight->pins[0]));
    }
    if (flight != NULL) {
        flight->count = 0;
        flight->bytes = 0;
    }
    return flight;
}

void berth__flights_depart(struct berth__flights *flights, struct berth__flight *flight,
                           const struct berth_chain *chain, uint64_t sent) {
    flight->bytes = sent;
    berth_gauge_add(BERTH_GAUGE_IN_FLIGHT_BYTES, (int64_t)sent);
    for (uint32_t i = 0; sent > 0; i++) {
        const struct berth_slice *segment = berth__chain_at(chain, i);
        flight->pins[flight->count++] = berth_slice_pin(segment);
        sent -= segment->length < sent ? segment->length : sent;
    }
    *place_of(flights, flights->next++) = flight;
    flights->count++;
}

/* The count and the place come first: a callback may send, and collect. */
static void land_one(struct berth__flights *flights, uint32_t number) {
    struct berth__flight *flight = *place_of(flights, number);
    *place_of(flights, number) = NULL;
    flights->count--;
    berth_pool_flight_end(flights->pool, flight->bytes);
    berth_gauge_add(BERTH_GAUGE_IN_FLIGHT_BYTES, -(int64_t)flight->bytes);
    for (uint32_t i = 0; i < flight->count; i++) {
        berth_slice_unpin(&flight->pins[i]);
    }
    berth_free(flight);
}

uint32_t berth__flights_land(struct berth__flights *flights, uint32_t first, uint32_t last) {
    uint32_t landed = 0;
    uint32_t number = is_under_way(flights, first) ? first : flights->oldest;
    for (; number - first <= last - first && is_under_way(flights, number); number++) {
        if (*place_of(flights, number) != NULL) {
            land_one(flights, number);
            landed++;
        }
    }
    while (flights->oldest != flights->next && *place_of(flights, flights->oldest) == NULL) {
        flights->oldest++;
    }
    return landed;
}

void berth__flights_end(struct berth__flights *flights) {
    BERTH_ASSERT(flights->count == 0);
    berth_free(flights->ring);
    flights->ring = NULL;
    flights->capacity = 0;
}

bool berth__flights_are_valid(const struct berth__flights *flights) {
    uint32_t count = 0;
    for (uint32_t number = flights->oldest; number != flights->next; number++) {
        count += *place_of(flights, number) != NULL;
    }
    bool begins = flights->oldest == flights->next || *place_of(flights, flights->oldest) != NULL;
    return begins && count == flights->count &&
           flights->next - flights->oldest <= flights->capacity;
}
