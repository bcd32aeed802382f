/* What all stores share for event loops. GIL held. */
#include "store/async_store.h"

#include <string.h>

#include "store/async_trip.h"

/* --- a request of its own memory --- */

static size_t
count_arguments(const RedlaneVector *vectors, size_t count, size_t *bytes)
{
    size_t total = 0;

    *bytes = 0;
    for (size_t i = 0; i < count; i++) {
        total += vectors[i].argc;
        for (size_t k = 0; k < vectors[i].argc; k++) {
            *bytes += vectors[i].argv[k].size;
        }
    }
    return total;
}

/* The bound of what follows the trip; NULL where it would overflow. */
static RedlaneAsyncTrip *
allocate(size_t vectors, size_t arguments, size_t bytes, size_t space)
{
    size_t each = vectors * (sizeof(RedlaneVector) + sizeof(PyObject *)) +
                  arguments * sizeof(RedlaneArg);

    if (bytes > (size_t)PY_SSIZE_T_MAX / 2) {
        return NULL;
    }
    return PyMem_Malloc(sizeof(RedlaneAsyncTrip) + each + bytes + space);
}

static char *
copy_bytes(char *place, RedlaneArg from, RedlaneArg *to)
{
    if (from.size) {
        memcpy(place, from.data, from.size);
    }
    *to = (RedlaneArg){place, from.size};
    return place + from.size;
}

RedlaneAsyncTrip *
redlane_async_store_prepare(RedlaneStore *store, const RedlaneRequest *request,
                            const RedlaneVector *vectors, size_t count)
{
    size_t bytes, arguments = count_arguments(vectors, count, &bytes);
    RedlaneAsyncTrip *trip = allocate(count, arguments, bytes, request->space.size);
    RedlaneVector *own_vectors;
    RedlaneArg *argv;
    PyObject **replies;
    char *place;

    if (!trip) {
        PyErr_NoMemory();
        return NULL;
    }
    memset(trip, 0, sizeof(*trip));
    own_vectors = (RedlaneVector *)(void *)(trip + 1);
    argv = (RedlaneArg *)(void *)(own_vectors + count);
    replies = (PyObject **)(void *)(argv + arguments);
    place = (char *)(replies + count);
    for (size_t i = 0; i < count; i++) {
        own_vectors[i] = (RedlaneVector){argv, vectors[i].argc, vectors[i].command};
        replies[i] = NULL;
        for (size_t k = 0; k < vectors[i].argc; k++) {
            place = copy_bytes(place, vectors[i].argv[k], argv++);
        }
    }
    trip->store = redlane_store_hold(store);
    trip->request = *request;
    if (request->space.size) {
        (void)copy_bytes(place, request->space, &trip->request.space);
    }
    trip->trip = (RedlaneTrip){.request = &trip->request,
                               .vectors = own_vectors,
                               .count = count,
                               .replies = replies};
    return trip;
}

static void
free_trip(RedlaneAsyncTrip *trip)
{
    RedlaneStore *store = trip->store;

    PyMem_Free((void *)trip->whole.argv);
    PyMem_Free(trip->instead);
    PyMem_Free(trip->all);
    Py_XDECREF(trip->context);
    PyMem_Free(trip);
    redlane_store_release(store);
}

void
redlane_async_store_discard(RedlaneAsyncTrip *trip)
{
    if (trip) {
        free_trip(trip);
    }
}

const RedlaneVector *
redlane_async_store_vectors(const RedlaneAsyncTrip *trip)
{
    return trip->trip.vectors;
}

/* --- its way --- */

void
redlane_async_store_begin(RedlaneAsyncTrip *trip, RedlaneLoop *loop, int64_t deadline,
                          RedlaneCompletion *completion)
{
    RedlaneStore *store = trip->store;

    trip->loop = loop;
    trip->request.deadline = deadline;
    trip->completion = completion;
    completion->trip = trip;
    if (trip->trip.count && store->ops->start) {
        store->ops->start(trip);
        return;
    }
    redlane_async_trip_finish(
        trip, trip->trip.count
                  ? redlane_store_run(store, &trip->request, trip->trip.vectors,
                                      trip->trip.count, trip->trip.replies)
                  : 0);
}

void
redlane_async_store_run(RedlaneStore *store, RedlaneLoop *loop,
                        const RedlaneRequest *request, const RedlaneVector *vectors,
                        size_t count, RedlaneCompletion *completion)
{
    RedlaneAsyncTrip *trip =
        redlane_async_store_prepare(store, request, vectors, count);

    if (!trip) {
        completion->trip = NULL;
        completion->done(completion, NULL, count);
        return;
    }
    redlane_async_store_begin(trip, loop, request->deadline, completion);
}

void
redlane_async_store_abandon(RedlaneCompletion *completion)
{
    RedlaneAsyncTrip *trip = completion->trip;

    if (trip) {
        completion->trip = NULL;
        trip->completion = NULL;
        trip->request.answer = NULL;
        trip->request.near_read = NULL;
    }
}

void
redlane_async_trip_finish(RedlaneAsyncTrip *trip, int result)
{
    RedlaneCompletion *completion = trip->completion;

    if (likely(completion != NULL)) {
        completion->trip = NULL;
        completion->done(completion, result < 0 ? NULL : trip->trip.replies,
                         trip->trip.count);
    }
    else if (result < 0) {
        PyErr_Clear();
    }
    else {
        redlane_store_drop_replies(trip->trip.replies, trip->trip.count);
    }
    free_trip(trip);
}

void
redlane_async_trip_drop(RedlaneAsyncTrip *trip)
{
    RedlaneCompletion *completion = trip->completion;

    redlane_store_drop_replies(trip->trip.replies, trip->trip.count);
    if (trip->all) {
        redlane_store_drop_replies(trip->all, trip->trip.count + 2);
    }
    Py_CLEAR(trip->text_reply);
    Py_CLEAR(trip->part_reply);
    if (completion) {
        completion->trip = NULL;
        completion->drop(completion);
    }
    free_trip(trip);
}

int
redlane_async_trip_traverse(RedlaneAsyncTrip *trip, visitproc visit, void *arg)
{
    Py_VISIT(trip->context);
    return trip->completion && trip->completion->traverse
               ? trip->completion->traverse(trip->completion, visit, arg)
               : 0;
}
