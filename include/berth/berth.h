/*
 * berth: a pooled arena allocator for network servers.
 *
 * This header includes the others:
 *   pool.h      pools, allocating and freeing
 *   limit.h     the limit on mapped memory, pressure callbacks
 *   event.h     what a program is told of when memory becomes short
 *   metrics.h   what the memory is doing
 *   tag.h       how much of it which part of the program uses
 *   buffer.h    buffers, and with them
 *   slice.h       counted views of memory
 *   chain.h       slices one after another
 *   io.h        chains to and from sockets
 *   share.h     slices that other processes see
 *   temp.h      memory for the moment of an IO operation
 *   uring.h     chains and rings of io_uring
 *   leak.h      where memory of buffers that nobody releases came from
 *   version.h
 * Under event libraries and in other servers there is adapt/ besides: docs/adaptors.md.
 * C++17 programs include memory_resource.hpp besides: a pool as std::pmr::memory_resource, and as
 * a standard allocator.
 *
 * Conventions. Calls that can fail return 0 or a negative errno value, or NULL with errno set.
 * berth_free and its kin keep errno. Sizes are bytes. Public names begin with berth_ or BERTH_; C11
 * and C++17 compile them. Each call's comment says: Units, Errors, Threads (which thread may call
 * it), Owns (who owns what is passed or returned), Blocks (wait-free, lock-free, may lock, may make
 * system calls, may wait), Since (the version that brought it); what does not apply is left out.
 */
#ifndef BERTH_BERTH_H
#define BERTH_BERTH_H

#include <berth/buffer.h>
#include <berth/chain.h>
#include <berth/event.h>
#include <berth/io.h>
#include <berth/leak.h>
#include <berth/limit.h>
#include <berth/metrics.h>
#include <berth/pool.h>
#include <berth/share.h>
#include <berth/slice.h>
#include <berth/tag.h>
#include <berth/temp.h>
#include <berth/uring.h>
#include <berth/version.h>

#endif
