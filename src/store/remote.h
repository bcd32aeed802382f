/* The remote executor: a bounded LIFO pool of connections to one server.
 *
 * It knows nothing of breakers: a failure is raised as ConnectionError, TimeoutError or
 * ReplyError and also told as a fault, so that its caller can judge it. */
#ifndef REDLANE_STORE_REMOTE_H
#define REDLANE_STORE_REMOTE_H

#include "core/fault.h"
#include "store/store.h"
#include "wire/channel.h"
#include "wire/settings.h"

/* `settings` is held (atomic reference count). NULL with MemoryError. */
RedlaneStore *redlane_remote_store_new(RedlaneState *state, RedlaneSettings *settings);

typedef struct {
    RedlaneFault fault; /* NONE for a plain error reply */
    bool progress; /* bytes of the reply were still coming when the deadline ended */
    bool unsure;   /* the server may have executed what it did not answer */
} RedlaneRemoteReport;

/* As RedlaneStoreOps.run; when -1 is returned, or a reply is an error, `report` says
 * what that tells of the server. */
int redlane_remote_store_run(RedlaneStore *store, const RedlaneRequest *request,
                             const RedlaneVector *vectors, size_t count,
                             PyObject **replies, RedlaneRemoteReport *report);

/* The connections of event loops. */
RedlaneChannels *redlane_remote_store_channels(RedlaneStore *store);

/* Closes idle connections now, and each busy one when it comes back; later requests
 * fail with REDLANE_FAULT_CLOSED. */
void redlane_remote_store_close(RedlaneStore *store);

typedef struct {
    size_t idle, busy, size; /* connections of threads; size is the bound */
    size_t loops;            /* connections of event loops */
    char server_version[32]; /* "7.0.15", or "" before the first connection */
} RedlaneRemoteStats;

void redlane_remote_store_stats(RedlaneStore *store, RedlaneRemoteStats *stats);

#endif
