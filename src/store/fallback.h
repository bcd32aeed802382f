/* The executor with a policy: the server while it is there, else what the policy says.
 *
 * One fallback store serves one tool; the guard, the remote store and the engines are
 * its link's and shared. */
#ifndef REDLANE_STORE_FALLBACK_H
#define REDLANE_STORE_FALLBACK_H

#include "pubsub/hub.h"
#include "store/background.h"
#include "store/guard.h"
#include "store/link.h"
#include "store/observer.h"
#include "store/store.h"

/* What all policies of one link share; owned by the link. All under the GIL. */
typedef struct RedlaneMembers {
    RedlaneStore *remote;
    RedlaneStore *engine;  /* answers during an outage; made on first need */
    RedlaneStore *scratch; /* always empty: misses and no-ops; made on first need */
    RedlaneGuard *guard;
    RedlaneNear *near; /* NULL until a tool wants it, and for memory:// */
    RedlaneHub *hub;   /* NULL until somebody subscribes */
    RedlaneObserver observer;
    RedlaneSettings *settings;
    uint64_t engine_period; /* the guard's period whose values the engine holds */
    int closed;
} RedlaneMembers;

/* A store for `policy`; holds the link that owns `members`. NULL with MemoryError. */
RedlaneStore *redlane_fallback_new(RedlaneState *state, RedlaneLink *link,
                                   RedlaneMembers *members, RedlanePolicy policy);

/* Logs what the guard has to tell. Any Python code may run. */
void redlane_fallback_tell(RedlaneState *state, RedlaneMembers *members);

#endif
