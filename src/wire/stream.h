/* Inside wire/: one connection that an event loop drives, and the FIFO of what awaits
 * its replies.
 *
 *   entries   [ head … awaited … unsent … to be sent … tail )    a ring
 *
 * Invariants: an entry without an errand is awaited by nobody, and swallows `left`
 * replies; live counts those with one. `busy` while the reader parses: a collector's
 * finaliser may come back here, and finds the stream's end put off. GIL held. */
#ifndef REDLANE_WIRE_STREAM_H
#define REDLANE_WIRE_STREAM_H

#include "wire/channel.h"
#include "wire/handshake.h"
#include "wire/resolve.h"

typedef struct RedlaneStream RedlaneStream;

typedef enum {
    REDLANE_STREAM_RESOLVES,
    REDLANE_STREAM_PAUSES, /* a unix socket's backlog is full */
    REDLANE_STREAM_CONNECTS,
    REDLANE_STREAM_SECURES,
    REDLANE_STREAM_GREETS,
    REDLANE_STREAM_READY,
    REDLANE_STREAM_ENDED,
} RedlaneStreamPhase;

typedef struct {
    RedlaneErrand *errand; /* NULL: nobody awaits it */
    size_t left;           /* replies still to come */
    size_t elements;
    uint64_t received; /* by the connection, when it was encoded */
    bool transaction;
    bool decode;
    bool ready; /* the connection stood already when it came */
    bool late;  /* it was sent, and its deadline has passed */
} RedlaneEntry;

/* While a connection is being made. */
typedef struct {
    RedlaneLookup *lookup; /* or NULL */
    RedlaneAddresses addresses;
    size_t next;           /* address */
    int64_t deadline;      /* of all of it */
    int64_t address_until; /* of this address */
    RedlaneHandshake handshake;
} RedlaneOpening;

struct RedlaneStream {
    PyObject_HEAD
    RedlaneChannel *channel; /* BORROWED; NULL once it has left it */
    RedlaneStream *next, **place;
    RedlaneConnection *connection;
    RedlaneOpening *opening; /* NULL once it stands */
    RedlaneStreamPhase phase;
    RedlaneReaderContext context;
    PyObject *on_event, *on_flush; /* our methods, bound; NULL at the end */
    int watched;                   /* descriptor, or -1 */
    bool reads, writes;            /* what it is watched for */
    bool flushing;                 /* on_flush is due */
    bool crowded;                  /* several were under way when it last was */
    bool working;                  /* it sends or receives: what is asked for waits */
    bool busy;
    bool alone;       /* has one request, which blocks */
    bool retired;     /* takes no new requests; ends with its last live one */
    bool end_put_off; /* while busy */
    RedlaneFault end_fault;
    int64_t received_at; /* when the last bytes came; coarse clock */
    uint64_t taken;      /* bytes received when replies last were complete */
    RedlaneEntry *ring;
    size_t capacity; /* a power of two, or 0 */
    size_t head, unsent, tail;
    size_t live;
};

/* So many requests of one turn do not wait for its end: the server begins with them
 * while the loop's other tasks still make theirs. */
#define REDLANE_STREAM_EARLY 32

/* How often a request that blocks is asked whether it is still wanted. */
#define REDLANE_STREAM_LOOK (20 * REDLANE_NS_PER_MS)

static inline RedlaneEntry *
redlane_stream_entry(const RedlaneStream *stream, size_t index)
{
    return &stream->ring[index & (stream->capacity - 1)];
}

/* A new one that begins to connect; in the channel's list, which has its only
 * reference. NULL with an exception set. */
RedlaneStream *redlane_stream_new(RedlaneChannel *channel);

/* Puts an errand at the end of the FIFO. RAISES_NEG */
int redlane_stream_push(RedlaneStream *stream, RedlaneErrand *errand);

/* Takes no more; ends when nothing is awaited. */
void redlane_stream_retire(RedlaneStream *stream);

/* Closes it: what is awaited is sent again where that is safe, or fails. */
void redlane_stream_end(RedlaneStream *stream, const RedlaneFault *fault);

/* The same where the loop is no more. */
void redlane_stream_drop(RedlaneStream *stream);

/* Lets what is due be too late; when the next is. */
int64_t redlane_stream_tick(RedlaneStream *stream, int64_t now);

/* An errand that fails, whose entry is forgotten; `sent`: it may be executed. */
void redlane_stream_fail_errand(RedlaneStream *stream, RedlaneErrand *errand, bool sent,
                                const RedlaneFault *fault);

/* stream_io.c: forgets answered entries; whether the server may have closed a
 * connection on which nothing comes, so that it is to be heard before it is told more;
 * sends what waits; the loop's callbacks. */
void redlane_stream_pop(RedlaneStream *stream);
bool redlane_stream_is_doubtful(RedlaneStream *stream);
void redlane_stream_flush(RedlaneStream *stream);
PyObject *redlane_stream_on_event(PyObject *stream, PyObject *unused);
PyObject *redlane_stream_on_flush(PyObject *stream, PyObject *unused);

/* stream_open.c: the first step, and each further one. -1 with a fault. */
int redlane_stream_open(RedlaneStream *stream, RedlaneFault *fault);
int redlane_stream_advance(RedlaneStream *stream, RedlaneFault *fault);
int64_t redlane_stream_open_due(const RedlaneStream *stream);
void redlane_stream_opening_free(RedlaneStream *stream);

/* Has the loop watch a descriptor for this; replaces what was watched. RAISES_NEG */
int redlane_stream_watch(RedlaneStream *stream, int fd, bool reads, bool writes);

/* Once the handshake is done. */
void redlane_stream_stands(RedlaneStream *stream);

/* channel.c: the parts of a channel that its streams see. */
struct RedlaneChannel {
    RedlaneLoopMember member; /* first */
    RedlaneLoop *loop;        /* BORROWED: has us */
    RedlaneState *state;      /* BORROWED */
    RedlaneSettings *settings;
    RedlaneChannels *home; /* NULL once that is closed */
    RedlaneChannel *next, **place;
    RedlaneStream *current; /* of streams, or NULL */
    RedlaneStream *streams;
    RedlaneStream *ticked, *retiring; /* whose turn comes next */
    bool closing;                     /* takes no more; freed with its last stream */
    bool last;                        /* made after the end: for one errand */
};

#endif
