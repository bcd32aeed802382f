/* Flights: computations under way. Lock: the GIL; nothing here runs Python code but the
 * end of a flight, which is in no table any more: flows are woken, a value or an error
 * released. */
#include "types/flight.h"

#include "core/clock.h"
#include "core/fork.h"
#include "core/glob.h"
#include "core/hash.h"
#include "py/state.h"

#define BUCKETS 256 /* flights are as many as threads that compute */

typedef struct {
    RedlaneFlight *buckets[BUCKETS];
    RedlaneSeed seed;    /* of the hash */
    RedlaneSeed lease;   /* random: the first half of every lease of this process */
    uint64_t leases;     /* so many were made: the second half */
    uint64_t flights;    /* so many were begun */
    unsigned generation; /* forks seen */
    RedlaneForkHook hook;
    volatile unsigned forks; /* counted by the hook in a child */
} Table;

static void
ignore_fork(void *context)
{
    (void)context;
}

static void
count_fork(void *context)
{
    ((Table *)context)->forks++;
}

int
redlane_flight_setup(PyObject *module)
{
    RedlaneState *state = redlane_state_of_module(module);
    Table *table = PyMem_Calloc(1, sizeof(*table));

    if (!table) {
        (void)PyErr_NoMemory();
        return -1;
    }
    redlane_hash_seed(&table->seed);
    redlane_hash_seed(&table->lease);
    table->hook = (RedlaneForkHook){
        .rank = REDLANE_FORK_FALLBACK,
        .prepare = ignore_fork,
        .parent = ignore_fork,
        .child = count_fork,
        .context = table,
    };
    if (redlane_fork_register(&table->hook) < 0) {
        PyMem_Free(table);
        (void)PyErr_NoMemory();
        return -1;
    }
    state->flights = table;
    return 0;
}

static void
unlink_flight(RedlaneFlight *flight)
{
    if (flight->where) {
        *flight->where = flight->next;
        if (flight->next) {
            flight->next->where = flight->where;
        }
        flight->where = NULL;
        flight->next = NULL;
    }
}

static void
unlink_all(Table *table)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        while (table->buckets[i]) {
            unlink_flight(table->buckets[i]);
        }
    }
}

void
redlane_flight_table_free(RedlaneState *state)
{
    Table *table = state->flights;

    if (table) {
        redlane_fork_unregister(&table->hook);
        unlink_all(table); /* whoever has one still may end it later */
        PyMem_Free(table);
        state->flights = NULL;
    }
}

/* In a child: flights of threads that no longer exist go (their memory stays, for a
 * frame that was copied may still point to it), and leases become others. The thread
 * that forked may be in a computation of its own: that flight goes on, out of the
 * table. */
static void
drop_after_fork(Table *table)
{
    table->generation = table->forks;
    unlink_all(table);
    redlane_hash_seed(&table->lease);
}

static Table *
get_table(RedlaneState *state)
{
    Table *table = state->flights;

    if (unlikely(table->generation != table->forks)) {
        drop_after_fork(table);
    }
    return table;
}

static void
write_lease(Table *table, char *lease)
{
    uint64_t id[2] = {table->lease.words[0], table->lease.words[1] + table->leases++};

    memcpy(lease, REDLANE_MARK, REDLANE_MARK_SIZE);
    lease[REDLANE_MARK_SIZE] = REDLANE_MARK_LEASE;
    memcpy(lease + REDLANE_MARK_SIZE + 1, id, sizeof(id));
}

void
redlane_flight_own(RedlaneState *state, RedlaneFlight *flight)
{
    RedlaneFlow *flow = redlane_flow_current(state);

    flight->owner = PyThread_get_thread_ident();
    flight->task = flow ? redlane_flow_task(flow) : NULL;
}

static RedlaneFlight *
begin_flight(RedlaneState *state, RedlaneLink *link, RedlaneArg key, bool leased)
{
    Table *table = get_table(state);
    RedlaneFlight *flight = PyMem_Malloc(sizeof(*flight) + key.size);
    RedlaneFlight **bucket;

    if (!flight) {
        (void)PyErr_NoMemory();
        return NULL;
    }
    *flight = (RedlaneFlight){
        .references = 1,
        .link = redlane_link_hold(link),
        .hash = redlane_hash_bytes(&table->seed, key.data, key.size),
        .generation = table->generation,
        .id = ++table->flights,
        .leased = leased,
        .key_size = key.size,
    };
    redlane_flight_own(state, flight);
    memcpy(flight->key, key.data, key.size);
    bucket = &table->buckets[flight->hash % BUCKETS];
    flight->next = *bucket;
    flight->where = bucket;
    if (flight->next) {
        flight->next->where = &flight->next;
    }
    *bucket = flight;
    return flight;
}

RedlaneFlight *
redlane_flight_begin(RedlaneState *state, RedlaneLink *link, RedlaneArg key)
{
    RedlaneFlight *flight = begin_flight(state, link, key, true);

    if (flight) {
        write_lease(get_table(state), flight->lease);
    }
    return flight;
}

RedlaneFlight *
redlane_flight_begin_alone(RedlaneState *state, RedlaneLink *link, RedlaneArg key,
                           const char *met)
{
    RedlaneFlight *flight = begin_flight(state, link, key, false);

    if (flight && met) {
        memcpy(flight->lease, met, sizeof(flight->lease));
    }
    return flight;
}

void
redlane_flight_release(RedlaneFlight *flight)
{
    PyObject *value, *error;

    if (--flight->references) {
        return;
    }
    unlink_flight(flight);
    value = flight->value;
    error = flight->error;
    if (flight->turnstile) {
        PyThread_free_lock(flight->turnstile);
    }
    redlane_link_release(flight->link);
    PyMem_Free(flight);
    Py_XDECREF(value);
    Py_XDECREF(error);
}

void
redlane_flight_finish(RedlaneFlight *flight, PyObject *value, PyObject *error)
{
    unlink_flight(flight);
    flight->value = Py_XNewRef(value);
    flight->error = Py_XNewRef(error);
    flight->done = true;
    if (flight->turnstile) {
        PyThread_release_lock(flight->turnstile);
    }
    while (unlikely(flight->wakers != NULL)) {
        RedlaneWaker *waker = flight->wakers;

        flight->wakers = waker->next;
        redlane_waker_wake(waker);
    }
    redlane_flight_release(flight);
}

void
redlane_flight_fail(RedlaneFlight *flight)
{
    PyObject *type, *error, *traceback;
    bool shared = PyErr_ExceptionMatches(PyExc_Exception);

    PyErr_Fetch(&type, &error, &traceback);
    PyErr_NormalizeException(&type, &error, &traceback);
    if (traceback && error) {
        (void)PyException_SetTraceback(error, traceback);
    }
    flight->abandoned = !shared;
    redlane_flight_finish(flight, NULL, shared ? error : NULL);
    PyErr_Restore(type, error, traceback);
}

static bool
same_text(const char *left, const char *right)
{
    return left == right || (left && right && strcmp(left, right) == 0);
}

/* Two links to one server and database: two clients made from one URL. */
static bool
same_server(const RedlaneLink *left, const RedlaneLink *right)
{
    const RedlaneSettings *a, *b;

    if (likely(left == right)) {
        return true;
    }
    a = redlane_link_settings(left);
    b = redlane_link_settings(right);
    return a->scheme == b->scheme && a->scheme != REDLANE_SCHEME_MEMORY &&
           a->port == b->port && a->db == b->db && same_text(a->host, b->host) &&
           same_text(a->path, b->path);
}

static bool
has_key(const RedlaneFlight *flight, const RedlaneLink *link, RedlaneArg key,
        uint64_t hash)
{
    return flight->hash == hash && flight->key_size == key.size &&
           memcmp(flight->key, key.data, key.size) == 0 &&
           same_server(flight->link, link);
}

RedlaneFlight *
redlane_flight_find(RedlaneState *state, RedlaneLink *link, RedlaneArg key,
                    const char *lease)
{
    static const char none[REDLANE_LEASE_SIZE];
    RedlaneFlow *flow = redlane_flow_current(state);
    const void *task = flow ? redlane_flow_task(flow) : NULL; /* may run other code */
    Table *table = get_table(state);
    uint64_t hash = redlane_hash_bytes(&table->seed, key.data, key.size);
    RedlaneFlight *flight = table->buckets[hash % BUCKETS];
    unsigned long thread = PyThread_get_thread_ident();

    for (; flight; flight = flight->next) {
        if (!has_key(flight, link, key, hash) || flight->marked ||
            memcmp(flight->lease, lease ? lease : none, sizeof(flight->lease)) != 0) {
            continue;
        }
        /* A loader that calls itself, by a task or a thread of its own too, must not
         * wait for itself, nor a thread for a task of its own event loop. */
        if ((flight->owner != thread ||
             (task && flight->task && flight->task != task)) &&
            !redlane_flight_is_inside(state, flight)) {
            flight->references++;
            return flight;
        }
    }
    return NULL;
}

RedlaneFlight *
redlane_flight_find_refresh(RedlaneState *state, RedlaneLink *link, RedlaneArg key,
                            uint64_t replaces)
{
    Table *table = get_table(state);
    uint64_t hash = redlane_hash_bytes(&table->seed, key.data, key.size);
    RedlaneFlight *flight = table->buckets[hash % BUCKETS];

    for (; flight; flight = flight->next) {
        if (flight->refresh && flight->replaces == replaces && !flight->marked &&
            has_key(flight, link, key, hash)) {
            flight->references++;
            return flight;
        }
    }
    return NULL;
}

bool
redlane_flight_is_ours(RedlaneState *state, const char *lease)
{
    const Table *table = get_table(state);

    return memcmp(lease + REDLANE_MARK_SIZE + 1, &table->lease.words[0],
                  sizeof(table->lease.words[0])) == 0;
}

bool
redlane_flight_is_over(RedlaneState *state, RedlaneLink *link, RedlaneArg key,
                       const char *lease)
{
    Table *table = get_table(state);
    uint64_t hash = redlane_hash_bytes(&table->seed, key.data, key.size);
    RedlaneFlight *flight = table->buckets[hash % BUCKETS];

    if (!redlane_flight_is_ours(state, lease)) {
        return false;
    }
    for (; flight; flight = flight->next) {
        if (flight->leased && has_key(flight, link, key, hash) &&
            memcmp(flight->lease, lease, sizeof(flight->lease)) == 0) {
            return false;
        }
    }
    return true;
}

/* A signal that comes just before a wait begins does not end it: a look this often. */
#define WAIT_SLICE (50 * REDLANE_NS_PER_MS)

int
redlane_flight_wait(RedlaneFlight *flight)
{
    return redlane_flight_wait_until(flight, redlane_clock_now() +
                                                 REDLANE_LEASE_MS * REDLANE_NS_PER_MS);
}

static int
wait_in_flow(RedlaneFlow *flow, RedlaneFlight *flight, int64_t deadline)
{
    RedlaneWaker waker, **where;
    int result = redlane_waker_init(&waker, redlane_link_state(flight->link));

    if (result == 0) {
        waker.next = flight->wakers;
        flight->wakers = &waker;
    }
    while (result == 0 && !flight->done && redlane_clock_now() < deadline) {
        result = redlane_flow_wait(flow, &waker, deadline);
    }
    for (where = &flight->wakers; *where; where = &(*where)->next) {
        if (*where == &waker) {
            *where = waker.next;
            break;
        }
    }
    redlane_waker_clear(&waker);
    return result < 0 ? -1 : flight->done;
}

int
redlane_flight_wait_until(RedlaneFlight *flight, int64_t deadline)
{
    RedlaneFlow *flow = redlane_flow_current(redlane_link_state(flight->link));

    if (unlikely(flow != NULL)) {
        return wait_in_flow(flow, flight, deadline);
    }
    if (!flight->done && !flight->turnstile) {
        flight->turnstile = PyThread_allocate_lock();
        if (!flight->turnstile) {
            (void)PyErr_NoMemory();
            return -1;
        }
        (void)PyThread_acquire_lock(flight->turnstile, NOWAIT_LOCK); /* the leader's */
    }
    while (!flight->done) {
        int64_t left = deadline - redlane_clock_now();
        PyLockStatus status;

        if (left <= 0) {
            return 0;
        }
        if (left > WAIT_SLICE) {
            left = WAIT_SLICE;
        }
        Py_BEGIN_ALLOW_THREADS
        status = PyThread_acquire_lock_timed(flight->turnstile, left / 1000 + 1, 1);
        Py_END_ALLOW_THREADS
        if (status == PY_LOCK_ACQUIRED) {
            PyThread_release_lock(flight->turnstile); /* the next one's turn */
        }
        else if (PyErr_CheckSignals() < 0) {
            return -1;
        }
    }
    return 1;
}

void
redlane_flight_mark_key(RedlaneState *state, RedlaneLink *link, RedlaneArg key)
{
    Table *table = get_table(state);
    uint64_t hash = redlane_hash_bytes(&table->seed, key.data, key.size);
    RedlaneFlight *flight = table->buckets[hash % BUCKETS];

    for (; flight; flight = flight->next) {
        if (has_key(flight, link, key, hash)) {
            flight->marked = true;
        }
    }
}

void
redlane_flight_mark_pattern(RedlaneState *state, RedlaneLink *link, RedlaneArg pattern)
{
    Table *table = get_table(state);

    for (size_t i = 0; i < BUCKETS; i++) {
        for (RedlaneFlight *flight = table->buckets[i]; flight; flight = flight->next) {
            if (same_server(flight->link, link) &&
                redlane_glob_match(pattern.data, pattern.size, flight->key,
                                   flight->key_size)) {
                flight->marked = true;
            }
        }
    }
}

static bool
share_a_tag(const RedlaneTags *left, const RedlaneTags *right)
{
    for (size_t i = 0; left && i < left->count; i++) {
        if (redlane_tags_find(right, left->items[i].id, left->items[i].id_size)) {
            return true;
        }
    }
    return false;
}

void
redlane_flight_mark_tags(RedlaneState *state, RedlaneLink *link,
                         const RedlaneTags *tags)
{
    Table *table = get_table(state);

    for (size_t i = 0; i < BUCKETS; i++) {
        for (RedlaneFlight *flight = table->buckets[i]; flight; flight = flight->next) {
            if (share_a_tag(flight->tags, tags) && same_server(flight->link, link)) {
                flight->marked = true;
            }
        }
    }
}
