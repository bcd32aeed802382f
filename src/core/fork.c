/* Lock: registry_lock, outside every lock that a hook takes; held from prepare until
 * parent or child. */
#include "core/fork.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;
static int registry_error;
static int depth; /* changes in a child only, before it has a second thread */
static RedlaneForkHook *registry; /* by rank */

static void
run_prepare(void)
{
    (void)pthread_mutex_lock(&registry_lock);
    for (RedlaneForkHook *hook = registry; hook; hook = hook->next) {
        hook->prepare(hook->context);
    }
}

/* The list is short (a pool and an engine for each server): recursion reverses it. */
static void
run_parent_from(RedlaneForkHook *hook)
{
    if (hook) {
        run_parent_from(hook->next);
        hook->parent(hook->context);
    }
}

static void
run_child_from(RedlaneForkHook *hook)
{
    if (hook) {
        run_child_from(hook->next);
        hook->child(hook->context);
    }
}

static void
run_parent(void)
{
    run_parent_from(registry);
    (void)pthread_mutex_unlock(&registry_lock);
}

static void
run_child(void)
{
    depth++;
    run_child_from(registry);
    (void)pthread_mutex_init(&registry_lock, NULL);
}

static void
install(void)
{
    registry_error = pthread_atfork(run_prepare, run_parent, run_child);
}

/* A child that was forked in the middle of a pthread_once does that again. */
static bool
is_listed_locked(const RedlaneForkHook *hook)
{
    for (const RedlaneForkHook *other = registry; other; other = other->next) {
        if (other == hook) {
            return true;
        }
    }
    return false;
}

int
redlane_fork_register(RedlaneForkHook *hook)
{
    RedlaneForkHook **place = &registry;

    (void)pthread_once(&registry_once, install);
    if (registry_error) {
        return -1;
    }
    (void)pthread_mutex_lock(&registry_lock);
    if (!is_listed_locked(hook)) {
        while (*place && (*place)->rank <= hook->rank) {
            place = &(*place)->next;
        }
        hook->next = *place;
        *place = hook;
    }
    (void)pthread_mutex_unlock(&registry_lock);
    return 0;
}

void
redlane_fork_unregister(RedlaneForkHook *hook)
{
    (void)pthread_mutex_lock(&registry_lock);
    for (RedlaneForkHook **place = &registry; *place; place = &(*place)->next) {
        if (*place == hook) {
            *place = hook->next;
            break;
        }
    }
    (void)pthread_mutex_unlock(&registry_lock);
}

int
redlane_fork_depth(void)
{
    (void)pthread_once(&registry_once, install);
    return registry_error ? -1 : depth;
}
