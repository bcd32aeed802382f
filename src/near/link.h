/* One invalidation connection: opened so that the server tells of every write to keys
 * with the wanted prefixes, then listened to, and asked each ping interval whether it
 * is still there. Belongs to the near cache's thread; no lock, no GIL. */
#ifndef REDLANE_NEAR_LINK_H
#define REDLANE_NEAR_LINK_H

#include "near/near_internal.h"
#include "wire/connection.h"
#include "wire/reply_push.h"

typedef struct {
    RedlaneNearCache *cache; /* not held: the thread holds it */
    RedlaneConnection *connection;
    RedlanePush push;
    RedlaneNearPrefixes *prefixes; /* held */
    char run_id[48];
    bool resp3;
    bool met_strangers; /* before the PING that is under way was sent */
    bool pinged;        /* a PING awaits its answer */
    int64_t pinged_at;  /* when the newest was sent, or what came before the first */
    int64_t proved_at;  /* when the newest that was answered was sent */
} RedlaneNearLink;

/* Connects, learns which server that is, and has it track the prefixes. NULL with a
 * fault: REPLY where the server refused. */
RedlaneNearLink *redlane_near_link_open_nogil(RedlaneNearCache *cache,
                                              RedlaneNearPrefixes *prefixes,
                                              const RedlaneWait *wait,
                                              RedlaneFault *fault);
void redlane_near_link_close(RedlaneNearLink *link); /* or NULL */

/* Does all that can be done without waiting: invalidations, answers, a PING that is
 * due. 1 when more may have come, 0, or -1 with a fault: the link is lost. */
int redlane_near_link_serve_nogil(RedlaneNearLink *link, RedlaneFault *fault);

/* Serves it until a PING that is sent now is answered: all that the server had said
 * before has come then. 0, or -1 with a fault. */
int redlane_near_link_drain_nogil(RedlaneNearLink *link, const RedlaneWait *wait,
                                  RedlaneFault *fault);

/* When it must be served again though nothing has come. */
int64_t redlane_near_link_due(const RedlaneNearLink *link);

/* Until when the word of its newest answer holds; coarse ns. */
int64_t redlane_near_link_valid_until(const RedlaneNearLink *link);

#endif
