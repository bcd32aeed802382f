/* Fork: one pthread_atfork for the process, and a list of those it must tell.
 *
 * Hooks stand in the order of their rank, which is the lock order. `prepare` runs in
 * that order in the parent and takes the owner's locks; `parent` and `child` run in the
 * opposite order and give them back or make them new. None of them touches Python or
 * needs the GIL; the child's may free memory and close descriptors. */
#ifndef REDLANE_CORE_FORK_H
#define REDLANE_CORE_FORK_H

typedef enum {
    REDLANE_FORK_BACKGROUND = 0, /* outermost lock: it looks into the guards */
    REDLANE_FORK_FALLBACK,
    REDLANE_FORK_ENGINE,
    REDLANE_FORK_NEAR,
    REDLANE_FORK_PUBSUB,
    REDLANE_FORK_POOL,
    REDLANE_FORK_CONNECTIONS, /* innermost */
} RedlaneForkRank;

typedef struct RedlaneForkHook RedlaneForkHook;

struct RedlaneForkHook {
    RedlaneForkRank rank;
    void (*prepare)(void *context);
    void (*parent)(void *context);
    void (*child)(void *context);
    void *context;
    RedlaneForkHook *next; /* the registry's */
};

/* The hook must stay where it is until unregistered. 0, or -1 when memory is exhausted.
 * Not to be called with a lock that a hook takes. */
int redlane_fork_register(RedlaneForkHook *hook);
void redlane_fork_unregister(RedlaneForkHook *hook);

/* How many forks lie between this process and the one that loaded the library; counted
 * from the first call, or the first hook, on. -1: it cannot be counted. */
int redlane_fork_depth(void);

#endif
