/* The seam: a request of command vectors in, replies out. Everything above a store
 * speaks Redis commands; every executor (memory engine, remote, fallback) is a member
 * of this table.
 *
 * All functions are called with the GIL held; they may give it up while they wait. */
#ifndef REDLANE_STORE_STORE_H
#define REDLANE_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/vector.h"
#include "near/near.h"
#include "py/python.h"

typedef struct RedlaneStore RedlaneStore;
struct RedlaneAsyncTrip;

/* Who answered. */
typedef enum {
    REDLANE_ANSWER_SERVER,  /* the server, or for memory:// its engine */
    REDLANE_ANSWER_ENGINE,  /* the engine in the server's place */
    REDLANE_ANSWER_NOTHING, /* nobody: a policy's miss or no-op, so no lease either */
} RedlaneAnswer;

/* A read whose values are to be kept near. */
typedef struct {
    RedlaneNear *near; /* BORROWED from the link */
    bool known; /* told: all of it was answered by the server that tells of changes */
} RedlaneNearRead;

/* How a request wants to be treated; plain data. */
typedef struct {
    int64_t deadline; /* total, CLOCK_MONOTONIC ns */
    bool decode;      /* bulk strings become str (UTF-8, strict) instead of bytes */
    bool transaction; /* MULTI/EXEC around all of them */
    bool cache_read;  /* may be answered as a miss while the link is suspect; a SET or
                         ACQUIRE among them places a lease, and may be read as a GET
                         where the server takes no writes */
    bool unsourced;   /* its counters have no source: amounts are kept, not deletes */
    bool durable;     /* its sets are kept for the server, whatever their TTL */
    RedlaneArg space; /* a glob that matches all its keys, or empty: what to forget
                         where the journal has no room for each */
    RedlaneAnswer *answer;      /* told who answered, if not the server; may be NULL */
    RedlaneNearRead *near_read; /* or NULL */
} RedlaneRequest;

typedef struct {
    /* Runs `count` vectors in order. On 0 each replies[i] holds a new reference: the
     * reply, or the exception *instance* of an error reply. On -1 an exception is set
     * and replies hold nothing. */
    int (*run)(RedlaneStore *store, const RedlaneRequest *request,
               const RedlaneVector *vectors, size_t count, PyObject **replies);
    /* One vector: a new reference, or NULL with an exception set (error replies are
     * raised). May be NULL: then it is made from run. */
    PyObject *(*execute)(RedlaneStore *store, const RedlaneRequest *request,
                         const RedlaneVector *vector);
    /* The same for an event loop: async_store.h. NULL: run does not wait, and will do.
     */
    void (*start)(struct RedlaneAsyncTrip *trip);
    /* All that matches was deleted, step by step, with `answer` the worst of them: what
     * did not reach the server is kept for it; `space` as in RedlaneRequest. May be
     * NULL: nothing is. RAISES_NEG */
    int (*forget)(RedlaneStore *store, RedlaneArg pattern, RedlaneArg space,
                  RedlaneAnswer answer);
    void (*free)(RedlaneStore *store); /* the last reference went */
} RedlaneStoreOps;

struct RedlaneStore {
    const RedlaneStoreOps *ops;
    RedlaneState *state; /* BORROWED: the module outlives its objects' types */
    size_t references;   /* under the GIL */
};

static inline RedlaneStore *
redlane_store_hold(RedlaneStore *store)
{
    store->references++;
    return store;
}

static inline void
redlane_store_release(RedlaneStore *store)
{
    if (store && --store->references == 0) {
        store->ops->free(store);
    }
}

/* Runs one vector on any store. */
PyObject *redlane_store_execute(RedlaneStore *store, const RedlaneRequest *request,
                                const RedlaneVector *vector);

static inline int
redlane_store_run(RedlaneStore *store, const RedlaneRequest *request,
                  const RedlaneVector *vectors, size_t count, PyObject **replies)
{
    return store->ops->run(store, request, vectors, count, replies);
}

/* Gives up replies that nobody is to see. */
static inline void
redlane_store_drop_replies(PyObject **replies, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        Py_CLEAR(replies[i]);
    }
}

static inline int
redlane_store_forget(RedlaneStore *store, RedlaneArg pattern, RedlaneArg space,
                     RedlaneAnswer answer)
{
    return store->ops->forget ? store->ops->forget(store, pattern, space, answer) : 0;
}

#endif
