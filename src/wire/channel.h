/* What one event loop has to one server: a connection that its requests share, and
 * those of requests that block.
 *
 *   send ──▶ [ errand | errand | errand ]  ──▶ one write a turn of the loop ──▶ server
 *   over ◀── oldest first            ◀── all replies that have come   ◀──
 *
 * An errand whose deadline passed is told so and forgotten; its reply, if it comes,
 * meets nobody. GIL held; on the loop's thread. */
#ifndef REDLANE_WIRE_CHANNEL_H
#define REDLANE_WIRE_CHANNEL_H

#include "core/vector.h"
#include "wire/connection.h"
#include "wire/loop.h"

typedef struct RedlaneChannel RedlaneChannel;
typedef struct RedlaneErrand RedlaneErrand;

/* A request on its way; the first member of its owner's own structure. */
struct RedlaneErrand {
    /* set by the owner; stays until the end */
    const RedlaneVector *vectors;
    size_t count;
    PyObject **replies; /* for each vector; of a transaction, two more */
    int64_t deadline;
    size_t elements;   /* that it may ask for in one array */
    bool transaction;  /* between MULTI and EXEC; exceptions inside its array stay there
                        */
    bool decode;       /* bulk strings become str */
    bool repeatable;   /* may be sent twice */
    bool alone;        /* on a connection of its own: it blocks */
    bool names_server; /* only over a connection that asked for the run_id */
    /* The end, once: 0 with new references in `replies`, or -1 with a fault and nothing
     * in them. It may be freed, and anything be called. */
    void (*over)(RedlaneErrand *self, int result, const RedlaneFault *fault);
    /* False when nobody awaits it any more: a command that blocks is ended then, and
     * what waited for a connection is not sent. */
    bool (*wanted)(RedlaneErrand *self);
    /* Instead, where the loop is no more: nothing of it may be called. */
    void (*drop)(RedlaneErrand *self);
    int (*traverse)(RedlaneErrand *self, visitproc visit, void *arg);
    /* told before over */
    const char *run_id; /* of the server; "" where it did not say it */
    bool progress;      /* bytes of the reply were still coming at the deadline */
    bool unsure;        /* it may be executed though it failed */
    /* the stream's own */
    size_t got; /* replies that have come */
    int64_t started;
    bool repeated;
};

/* All loops' channels to one server; part of what owns them. */
typedef struct {
    RedlaneState *state; /* BORROWED */
    RedlaneSettings *settings;
    RedlaneChannel *first;                            /* the one used last */
    bool closed;                                      /* what is sent now is the last */
    char server_version[REDLANE_SERVER_VERSION_SIZE]; /* of the newest connection */
} RedlaneChannels;

/* No new requests; what is under way ends first, each on its own loop. */
void redlane_channels_close(RedlaneChannels *channels);

/* The connections of all loops. */
size_t redlane_channels_count(const RedlaneChannels *channels);

/* The channel of the running loop, made on first use; NULL with an exception set. */
RedlaneChannel *redlane_channels_find(RedlaneChannels *channels, RedlaneLoop *loop);

/* Sends it in this turn of the loop, as soon as there is a connection. RAISES_NEG: then
 * it is not under way. */
int redlane_channel_send(RedlaneChannel *channel, RedlaneErrand *errand);

int redlane_stream_setup(PyObject *module);

#endif
