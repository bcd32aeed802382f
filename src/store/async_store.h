/* The seam for event loops: a request of command vectors in, replies out, later.
 *
 *   redlane_async_store_run ──▶ [engine: at once]            ──▶ completion->done
 *                               [server: an errand of the loop's connection, a park
 * while the link is suspect, the engine in its place]
 *
 * The same stores, guards, journals and engines as store.h; only the waiting differs.
 * Nothing here waits: whatever has to is an errand, a descriptor or a timer of the
 * loop.
 *
 * All functions are called with the GIL held, on the thread of the loop. */
#ifndef REDLANE_STORE_ASYNC_STORE_H
#define REDLANE_STORE_ASYNC_STORE_H

#include "store/store.h"
#include "wire/loop.h"

typedef struct RedlaneCompletion RedlaneCompletion;

/* Who waits for a request: the first member of the waiter's own structure. It stays
 * where it is until one of the two was called, or it was abandoned. */
struct RedlaneCompletion {
    /* The request is over: before redlane_async_store_run returns, or later on the
     * loop's thread; once. `replies` holds `count` new references, to be taken:
     * replies, or the exception instances of error replies. NULL: it failed, and an
     * exception is set, which is to be taken too. May start other requests, and free
     * itself. */
    void (*done)(RedlaneCompletion *self, PyObject **replies, size_t count);
    /* Instead of done: the loop was closed, or is being collected. Whoever waited does
     * so no more, and nothing of the loop may be called. */
    void (*drop)(RedlaneCompletion *self);
    /* False when whoever waited was cancelled; or NULL. Asked where it matters. */
    bool (*wanted)(RedlaneCompletion *self);
    /* For the collector: what the waiter holds; or NULL. */
    int (*traverse)(RedlaneCompletion *self, visitproc visit, void *arg);
    /* store/'s own: the request on its way, or NULL. */
    struct RedlaneAsyncTrip *trip;
};

/* Starts a request. What the vectors point to is copied; of `request`, only `answer`
 * and `near_read` must stay until the end (or abandon), and are told before done is
 * called. `completion->done` and `drop` are set by the caller. Every failure comes by
 * done. */
void redlane_async_store_run(RedlaneStore *store, RedlaneLoop *loop,
                             const RedlaneRequest *request,
                             const RedlaneVector *vectors, size_t count,
                             RedlaneCompletion *completion);

/* Nobody waits any more: neither done nor drop will be called, and the completion may
 * be freed. What was sent may still be executed; its reply meets nobody. Harmless after
 * the end. */
void redlane_async_store_abandon(RedlaneCompletion *completion);

/* The same in two steps, for a request that is made now and started when it is awaited:
 * what the vectors point to is copied here. NULL with MemoryError. */
struct RedlaneAsyncTrip *redlane_async_store_prepare(RedlaneStore *store,
                                                     const RedlaneRequest *request,
                                                     const RedlaneVector *vectors,
                                                     size_t count);
void redlane_async_store_begin(struct RedlaneAsyncTrip *trip, RedlaneLoop *loop,
                               int64_t deadline, RedlaneCompletion *completion);

/* Frees one that was not begun; NULL is allowed. */
void redlane_async_store_discard(struct RedlaneAsyncTrip *trip);

/* The copies; BORROWED from it. */
const RedlaneVector *redlane_async_store_vectors(const struct RedlaneAsyncTrip *trip);

#endif
