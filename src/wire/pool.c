#include "wire/pool.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/fork.h"
#include "core/platform.h"

/* How long a pool stays smaller after "max number of clients". */
#define CROWDED_FOR (10 * REDLANE_NS_PER_S)

struct RedlanePool {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    RedlaneConnection *idle; /* newest first */
    size_t idle_count;
    size_t taken;
    size_t waiting;
    size_t promised;       /* places kept for those who wait */
    size_t size;           /* the bound as asked for */
    size_t bound;          /* the bound for now */
    int64_t crowded_until; /* when bound grows back; 0: it is whole */
    unsigned generation;   /* of this process: connections of another are foreign */
    bool closed;
    char server_version[REDLANE_SERVER_VERSION_SIZE]; /* of the newest connection */
    RedlaneForkHook hook;
};

static void
fork_prepare(void *context)
{
    RedlanePool *pool = context;

    (void)pthread_mutex_lock(&pool->lock);
}

static void
fork_parent(void *context)
{
    RedlanePool *pool = context;

    (void)pthread_mutex_unlock(&pool->lock);
}

/* The descriptors are closed by transport.c. Those who had taken a connection are gone,
 * but perhaps for one that forked in the middle of its call: what it gives back is of
 * an old generation. */
static void
fork_child(void *context)
{
    RedlanePool *pool = context;
    RedlaneConnection *connection, *next;

    (void)pthread_mutex_init(&pool->lock, NULL);
    (void)redlane_platform_cond_init(&pool->changed);
    for (connection = pool->idle; connection; connection = next) {
        next = connection->next;
        redlane_connection_free(connection);
    }
    pool->idle = NULL;
    pool->idle_count = pool->taken = pool->waiting = pool->promised = 0;
    pool->bound = pool->size;
    pool->crowded_until = 0;
    pool->generation++;
}

RedlanePool *
redlane_pool_new(size_t size)
{
    RedlanePool *pool = calloc(1, sizeof(*pool));

    if (!pool) {
        return NULL;
    }
    pool->size = pool->bound = size ? size : 1;
    pool->hook = (RedlaneForkHook){
        .rank = REDLANE_FORK_POOL,
        .prepare = fork_prepare,
        .parent = fork_parent,
        .child = fork_child,
        .context = pool,
    };
    if (pthread_mutex_init(&pool->lock, NULL) != 0) {
        free(pool);
        return NULL;
    }
    if (redlane_platform_cond_init(&pool->changed) != 0) {
        goto no_condition;
    }
    if (redlane_fork_register(&pool->hook) < 0) {
        goto no_hook;
    }
    return pool;

no_hook:
    (void)pthread_cond_destroy(&pool->changed);
no_condition:
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
    return NULL;
}

void
redlane_pool_free(RedlanePool *pool)
{
    redlane_pool_close(pool);
    redlane_fork_unregister(&pool->hook);
    (void)pthread_cond_destroy(&pool->changed);
    (void)pthread_mutex_destroy(&pool->lock);
    free(pool);
}

/* Places that somebody could take now. */
static size_t
places_locked(RedlanePool *pool)
{
    size_t used = pool->idle_count + pool->taken;

    if (pool->crowded_until && redlane_clock_passed(pool->crowded_until)) {
        pool->bound = pool->size;
        pool->crowded_until = 0;
    }
    return pool->idle_count + (used < pool->bound ? pool->bound - used : 0);
}

static RedlaneConnection *
pop_locked(RedlanePool *pool)
{
    RedlaneConnection *connection = pool->idle;

    if (connection) {
        pool->idle = connection->next;
        connection->next = NULL;
        pool->idle_count--;
        pool->taken++;
    }
    return connection;
}

/* After a place has come free: keeps it for one who waits. */
static void
promise_locked(RedlanePool *pool)
{
    if (pool->promised < pool->waiting && places_locked(pool) > pool->promised) {
        pool->promised++;
        (void)pthread_cond_signal(&pool->changed);
    }
}

RedlaneConnection *
redlane_pool_take_idle(RedlanePool *pool)
{
    RedlaneConnection *connection = NULL;

    (void)pthread_mutex_lock(&pool->lock);
    if (pool->idle_count > pool->promised && !pool->closed) {
        connection = pop_locked(pool);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return connection;
}

/* Takes an idle one or a place; there is one. */
static RedlaneConnection *
take_place_locked(RedlanePool *pool, RedlaneFault *fault)
{
    RedlaneConnection *connection = pop_locked(pool);

    if (connection) {
        return connection;
    }
    connection = redlane_connection_new();
    if (!connection) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        return NULL;
    }
    connection->generation = pool->generation;
    pool->taken++;
    return connection;
}

/* Waits for a promise: 0 with the lock still held, -1 with a fault. */
static int
wait_locked(RedlanePool *pool, const RedlaneWait *wait, RedlaneFault *fault)
{
    unsigned generation = pool->generation;
    int result = 0;

    pool->waiting++;
    while (result == 0 && pool->promised == 0 && !pool->closed) {
        result = redlane_wait_cond_nogil(wait, &pool->changed, &pool->lock, fault);
        if (pool->generation != generation) {
            return result; /* a child made by fork: nobody waits, all is free */
        }
    }
    pool->waiting--;
    if (pool->promised && (result == 0 || pool->promised > pool->waiting)) {
        pool->promised--;
        if (result < 0 && fault->kind == REDLANE_FAULT_TIMEOUT) {
            return 0; /* it came at the last moment */
        }
        if (result < 0) {
            promise_locked(pool);
        }
    }
    if (result < 0 && fault->kind == REDLANE_FAULT_TIMEOUT) {
        redlane_fault_set(fault, REDLANE_FAULT_POOL,
                          "timed out: all %zu connections of the pool were busy",
                          pool->bound);
    }
    return result;
}

RedlaneConnection *
redlane_pool_take_nogil(RedlanePool *pool, const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlaneConnection *connection = NULL;
    int result = 0;

    (void)pthread_mutex_lock(&pool->lock);
    if (places_locked(pool) <= pool->promised && !pool->closed) {
        result = wait_locked(pool, wait, fault);
    }
    if (result == 0) {
        if (pool->closed) {
            redlane_fault_set(fault, REDLANE_FAULT_CLOSED, "closed");
        }
        else {
            connection = take_place_locked(pool, fault);
        }
    }
    (void)pthread_mutex_unlock(&pool->lock);
    return connection;
}

/* Takes the connection back into the books. True when it stays, as an idle one. */
static bool
account_locked(RedlanePool *pool, RedlaneConnection *connection)
{
    bool stays = false;

    if (connection->generation != pool->generation) {
        return false;
    }
    pool->taken--;
    if (connection->ready && !pool->closed &&
        pool->idle_count + pool->taken < pool->bound) {
        connection->next = pool->idle;
        pool->idle = connection;
        pool->idle_count++;
        stays = true;
    }
    promise_locked(pool);
    return stays;
}

static void
note_version_locked(RedlanePool *pool, const RedlaneConnection *connection)
{
    if (connection->ready && connection->server_version[0] &&
        strcmp(pool->server_version, connection->server_version) != 0) {
        memcpy(pool->server_version, connection->server_version,
               sizeof(pool->server_version));
    }
}

void
redlane_pool_give(RedlanePool *pool, RedlaneConnection *connection)
{
    bool stays;

    (void)pthread_mutex_lock(&pool->lock);
    note_version_locked(pool, connection);
    stays = account_locked(pool, connection);
    (void)pthread_mutex_unlock(&pool->lock);
    if (!stays) {
        redlane_connection_free(connection);
    }
}

bool
redlane_pool_give_crowded(RedlanePool *pool, RedlaneConnection *connection)
{
    size_t others;

    (void)pthread_mutex_lock(&pool->lock);
    /* Before the place comes free: it is not one to promise to somebody. */
    others = pool->idle_count + pool->taken;
    others -= connection->generation == pool->generation;
    pool->bound = others ? others : 1;
    pool->crowded_until = redlane_clock_now() + CROWDED_FOR;
    (void)account_locked(pool, connection);
    (void)pthread_mutex_unlock(&pool->lock);
    redlane_connection_free(connection);
    return others > 0;
}

void
redlane_pool_close(RedlanePool *pool)
{
    RedlaneConnection *connection, *next;

    (void)pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    connection = pool->idle;
    pool->idle = NULL;
    pool->idle_count = 0;
    (void)pthread_cond_broadcast(&pool->changed);
    (void)pthread_mutex_unlock(&pool->lock);
    for (; connection; connection = next) {
        next = connection->next;
        redlane_connection_free(connection);
    }
}

bool
redlane_pool_is_closed(RedlanePool *pool)
{
    bool closed;

    (void)pthread_mutex_lock(&pool->lock);
    closed = pool->closed;
    (void)pthread_mutex_unlock(&pool->lock);
    return closed;
}

void
redlane_pool_stats(RedlanePool *pool, RedlanePoolStats *stats)
{
    (void)pthread_mutex_lock(&pool->lock);
    stats->idle = pool->idle_count;
    stats->taken = pool->taken;
    stats->size = pool->bound;
    memcpy(stats->server_version, pool->server_version, sizeof(stats->server_version));
    (void)pthread_mutex_unlock(&pool->lock);
}
