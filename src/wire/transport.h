/* How bytes travel: a descriptor and a few functions over it. The members are plain
 * sockets, here, and TLS, in tls.c. Nothing blocks, nothing needs the GIL; a transport
 * is used by one thread at a time.
 *
 * Every open one stands in a registry (its lock is held for the opening and closing of
 * a descriptor alone), so that a child made by fork closes what it inherited without a
 * word to the server: the owner, if it lives on in the child, finds fd -1. */
#ifndef REDLANE_WIRE_TRANSPORT_H
#define REDLANE_WIRE_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct RedlaneTransport RedlaneTransport;

enum {
    REDLANE_IO_CLOSED = 0,   /* read: end of file */
    REDLANE_IO_BLOCKED = -1, /* wait for wants_read or wants_write, then again */
    REDLANE_IO_FAILED = -2,  /* `error` is the errno, or `reason` says what */
};

typedef struct {
    /* Each moves at most `size` (> 0) bytes: how many, or one of the above. */
    ssize_t (*read)(RedlaneTransport *transport, char *data, size_t size);
    /* The same, but waits for a byte, for a slice of REDLANE_WAIT_SLICE at most: one
     * system call where read, poll and read again are three. NULL where it cannot. */
    ssize_t (*read_within)(RedlaneTransport *transport, char *data, size_t size);
    ssize_t (*write)(RedlaneTransport *transport, const char *data, size_t size);
    /* True when nothing can be read: no byte, no end of file, no error. */
    bool (*quiet)(RedlaneTransport *transport);
    /* Tells the peer that the end is meant, as far as that goes at once; NULL where
     * there is nothing to tell. */
    void (*goodbye)(RedlaneTransport *transport);
    /* Frees what stands above the descriptor, without a word to the peer. */
    void (*forget)(RedlaneTransport *transport);
} RedlaneTransportOps;

struct RedlaneTransport {
    const RedlaneTransportOps *ops;
    void *session;      /* what stands above the descriptor, or NULL */
    const char *reason; /* of the last REDLANE_IO_FAILED; NULL: `error` says it */
    int fd;             /* or -1; also -1 in a child that inherited it by fork */
    int error;          /* errno of the last REDLANE_IO_FAILED */
    bool waits;         /* read_within may be used */
    unsigned looks;     /* how often read_within looks before it sleeps */
    unsigned reads;     /* by read_within, so far */
    short wants_read;   /* poll events that a blocked read waits for */
    short wants_write;  /* poll events that a blocked write waits for */
    int64_t moved_at;   /* when a byte last went over the descriptor either way, be it
                           of what a session cannot hand out yet; coarse clock */
    RedlaneTransport *next, **place; /* the registry of open ones */
};

/* A plain one, not open. */
void redlane_transport_init_plain(RedlaneTransport *transport);

/* The same for one whose session above the descriptor is gone; fd and registry stay. */
void redlane_transport_make_plain(RedlaneTransport *transport);

/* Gives it a socket that a child made by fork will close; -1 with errno. */
int redlane_transport_socket_nogil(RedlaneTransport *transport, int family);

/* The same with one of a pair of connected sockets; the other, *peer, is the caller's,
 * and no child closes it. */
int redlane_transport_pair_nogil(RedlaneTransport *transport, int *peer);

/* Once it is connected: from here on read_within waits. */
void redlane_transport_connected(RedlaneTransport *transport);

/* The bytes on the descriptor, past what stands above it: read, read_within and write
 * of a plain one. */
ssize_t redlane_transport_receive_nogil(RedlaneTransport *transport, char *data,
                                        size_t size);
ssize_t redlane_transport_receive_within_nogil(RedlaneTransport *transport, char *data,
                                               size_t size);
ssize_t redlane_transport_send_nogil(RedlaneTransport *transport, const char *data,
                                     size_t size);

/* What the last read or write that came to nothing met, for people. */
const char *redlane_transport_problem(const RedlaneTransport *transport);

/* Closes it, if it is open; with `reset` nothing unsent arrives later. Keeps errno. */
void redlane_transport_close_nogil(RedlaneTransport *transport, bool reset);

#endif
