/* The connection of a hub: opened and shaken hands on, told what is wanted, listened
 * to, and asked now and then whether it is still there. Belongs to the hub's thread; no
 * GIL. The hub's lock is taken for what is said of topics and feeds. */
#ifndef REDLANE_PUBSUB_LINK_H
#define REDLANE_PUBSUB_LINK_H

#include "pubsub/hub_internal.h"
#include "wire/connection.h"
#include "wire/reply_message.h"

/* A command that is not answered yet; the server answers in order. */
typedef struct {
    RedlaneTopic *topic; /* NULL: PING */
    bool subscribes;
} RedlaneHubCommand;

typedef struct {
    RedlaneHub *hub; /* not held: the thread holds it */
    RedlaneConnection *connection;
    RedlaneMessages messages;
    RedlaneHubCommand *commands; /* a ring */
    size_t room, first, count;
    bool starved;      /* as the hub was when it was served last */
    int64_t pinged_at; /* when the newest was sent, or what came before the first */
    int64_t heard_at;  /* when something came last */
} RedlaneHubLink;

/* NULL with a fault: REPLY where the server refused. */
RedlaneHubLink *redlane_hub_link_open_nogil(RedlaneHub *hub, const RedlaneWait *wait,
                                            RedlaneFault *fault);
void redlane_hub_link_close(RedlaneHubLink *link); /* or NULL */

/* Does all that can be done without waiting. 1 when more may have come, 0, or -1 with a
 * fault: the link is lost. */
int redlane_hub_link_serve_nogil(RedlaneHubLink *link, RedlaneFault *fault);

/* When it must be served again though nothing has come. */
int64_t redlane_hub_link_due(const RedlaneHubLink *link);

#endif
