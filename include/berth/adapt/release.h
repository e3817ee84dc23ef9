/*
 * Release callbacks of the shapes that servers and libraries have for memory that is not theirs.
 *
 *   struct berth_segment bytes;            what is to be sent: the first segment of a chain
 *   struct berth_slice slice;
 *   berth_chain_segment(&chain, 0, &bytes);
 *   berth_chain_take_slice(&chain, &slice);
 *
 *   nginx
 *     cleanup = ngx_pool_cleanup_add(request->pool, 0);
 *     cleanup->handler = berth_release_context;
 *     cleanup->data = berth_slice_detach(&slice);
 *   h2o
 *     slot = h2o_mem_alloc_shared(&request->pool, sizeof(*slot), berth_release_slot);
 *     *slot = berth_slice_detach(&slice);
 *   libmicrohttpd
 *     MHD_create_response_from_buffer_with_free_callback_cls(
 *         bytes.length, (void *)bytes.data, berth_release_context, berth_slice_detach(&slice));
 *   ZeroMQ
 *     zmq_msg_init_data(&message, (void *)bytes.data, bytes.length, berth_release_data,
 *                       berth_slice_detach(&slice));
 *
 * The bytes are good until the callback runs, on whatever thread that does. Nothing is allocated
 * for a message. docs/adaptors.md has whole functions. Only inline functions, no other library's
 * headers. Not part of berth.h.
 */
#ifndef BERTH_ADAPT_RELEASE_H
#define BERTH_ADAPT_RELEASE_H

#include <berth/slice.h>

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast" /* C has no other */
#endif
#ifdef __cplusplus
extern "C" {
#endif

/**
 * Releases the reference that its context is: what berth_slice_detach returned.
 *
 * Threads: any. Owns: takes the reference. Blocks: as berth_free. Since: 0.1.
 */
static inline void berth_release_context(void *owner) {
    berth_owner_release((struct berth_owner *)owner);
}

/**
 * Releases the reference that lies at `slot`, in memory that is about to be disposed of.
 *
 * Threads: any. Owns: takes the reference. Blocks: as berth_free. Since: 0.1.
 */
static inline void berth_release_slot(void *slot) {
    struct berth_owner **at = (struct berth_owner **)slot;
    berth_owner_release(*at);
    *at = NULL;
}

/**
 * Releases the reference that `hint` is; where the memory lies is passed before it.
 *
 * Threads: any. Owns: takes the reference. Blocks: as berth_free. Since: 0.1.
 */
static inline void berth_release_data(void *data, void *hint) {
    (void)data;
    berth_owner_release((struct berth_owner *)hint);
}

#ifdef __cplusplus
}
#endif
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif
