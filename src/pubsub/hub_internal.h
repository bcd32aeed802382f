/* Inside pubsub/: the hub itself, its topics and its thread. */
#ifndef REDLANE_PUBSUB_HUB_INTERNAL_H
#define REDLANE_PUBSUB_HUB_INTERNAL_H

#include <pthread.h>

#include "core/table.h"
#include "pubsub/hub.h"

/* What some feed wants, or did: a channel or a pattern. All by the hub's lock. */
struct RedlaneTopic {
    RedlaneItem item;
    bool by_pattern;
    bool asked;     /* the newest command about it, on this connection, is SUBSCRIBE */
    bool confirmed; /* and the server has said so */
    bool listed;    /* among those to be told of to the server */
    size_t pending; /* commands about it that are not answered */
    RedlaneTopic *next_listed;
    RedlaneFeed **feeds;
    size_t count, room; /* of feeds */
    char name[];
};

struct RedlaneHub {
    atomic_size_t references;
    RedlaneHub *next;          /* in the registry */
    RedlaneSettings *settings; /* held */
    int64_t ping_interval;     /* ns */
    bool is_local;             /* memory:// */
    RedlaneSeed seed;

    pthread_mutex_t lock;   /* all that follows but the atomic */
    RedlaneTable topics[2]; /* channels, patterns */
    RedlaneFeed *feeds;     /* by `next`; not held: each leaves before it goes */
    RedlaneTopic *listed, **listed_end; /* by next_listed */
    bool connected;
    bool told;        /* the reason was taken to be logged */
    bool was_told;    /* and so is its end to be */
    char reason[232]; /* why nothing comes, or "" */
    bool stopping;
    bool starved; /* a feed that waits is full: nothing is read */

    int wake[2];
    atomic_bool running; /* the thread, which has a reference; written under lock */
};

/* --- topics.c: all with the hub's lock ------------------------------------ */

/* Makes the feed one of those of a topic. False when memory is exhausted. */
bool redlane_topic_join(RedlaneHub *hub, RedlaneFeed *feed, RedlaneArg name,
                        bool by_pattern);

/* Takes it out of all of them. */
void redlane_topics_leave(RedlaneHub *hub, RedlaneFeed *feed);

/* There is a connection: all of them are on the list of those to be told of. */
void redlane_topics_list_all(RedlaneHub *hub);

/* The next that the server must be told of, off the list, or NULL: to be subscribed
 * where it has feeds, else to be unsubscribed. */
RedlaneTopic *redlane_topics_next(RedlaneHub *hub);

/* A command about it was answered, or never will be. The topic may be gone after that.
 */
void redlane_topic_settle(RedlaneHub *hub, RedlaneTopic *topic);

/* The server brings its messages from here on. */
void redlane_topic_confirm(RedlaneHub *hub, RedlaneTopic *topic);

/* It never will: its feeds are ended. A command about it must still be pending. */
void redlane_topic_refuse(RedlaneHub *hub, RedlaneTopic *topic,
                          const RedlaneFault *fault);

/* The connection is gone, or could not be made: all that is wanted is to be asked for
 * again. `fault` is NULL where it was closed because nobody wanted anything. */
void redlane_topics_lose(RedlaneHub *hub, const RedlaneFault *fault, bool refused);

/* Puts a message into the feeds of a topic: those that are live, or all. How many, or
 * -1 when memory is exhausted. */
int64_t redlane_topics_deliver(RedlaneHub *hub, RedlaneArg channel,
                               const RedlaneArg *pattern, RedlaneArg payload, bool all);

/* The same for a message that comes from no server: by its channel and all patterns. */
size_t redlane_topics_publish(RedlaneHub *hub, RedlaneArg channel, RedlaneArg payload);

/* How many channels or patterns are wanted. */
size_t redlane_topics_count(const RedlaneHub *hub, bool by_pattern);

void redlane_topics_init(RedlaneHub *hub);
void redlane_topics_free(RedlaneHub *hub);

/* --- hub.c: with the lock ------------------------------------------------- */

/* Why nothing comes, without what a server repeats of a secret; "": it does. Who reads
 * is woken for what is new: it is told by readers. */
void redlane_hub_set_reason_locked(RedlaneHub *hub, const char *reason);

/* --- thread.c ------------------------------------------------------------- */

/* With the lock: makes sure that the thread runs, and has it look. */
bool redlane_hub_thread_start_locked(RedlaneHub *hub);

#endif
