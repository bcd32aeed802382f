#include "wire/relay.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/fork.h"
#include "core/platform.h"

struct RedlaneRelay {
    pthread_mutex_t lock;
    int control; /* under lock, as the rest: our end, or -1 */
    size_t heard;
    char hearing[REDLANE_RELAY_TLS_SIZE]; /* `heard` bytes of it */
    char tls[REDLANE_RELAY_TLS_SIZE];
    RedlaneForkHook fork;
};

static void
fork_prepare(void *context)
{
    (void)pthread_mutex_lock(&((RedlaneRelay *)context)->lock);
}

static void
fork_parent(void *context)
{
    (void)pthread_mutex_unlock(&((RedlaneRelay *)context)->lock);
}

static void
close_control(RedlaneRelay *relay)
{
    if (relay->control >= 0) {
        (void)close(relay->control);
        relay->control = -1;
        relay->heard = 0;
    }
}

static void
fork_child(void *context)
{
    RedlaneRelay *relay = context;

    (void)pthread_mutex_init(&relay->lock, NULL);
    close_control(relay);
}

RedlaneRelay *
redlane_relay_new(void)
{
    RedlaneRelay *relay = calloc(1, sizeof(*relay));

    if (!relay) {
        return NULL;
    }
    relay->control = -1;
    relay->fork = (RedlaneForkHook){REDLANE_FORK_POOL, fork_prepare, fork_parent,
                                    fork_child,        relay,        NULL};
    if (pthread_mutex_init(&relay->lock, NULL) != 0) {
        free(relay);
        return NULL;
    }
    if (redlane_fork_register(&relay->fork) < 0) {
        (void)pthread_mutex_destroy(&relay->lock);
        free(relay);
        return NULL;
    }
    return relay;
}

void
redlane_relay_free(RedlaneRelay *relay)
{
    if (relay) {
        redlane_fork_unregister(&relay->fork);
        close_control(relay);
        (void)pthread_mutex_destroy(&relay->lock);
        free(relay);
    }
}

bool
redlane_relay_is_open(RedlaneRelay *relay)
{
    bool open;

    (void)pthread_mutex_lock(&relay->lock);
    open = relay->control >= 0;
    (void)pthread_mutex_unlock(&relay->lock);
    return open;
}

int
redlane_relay_open(RedlaneRelay *relay)
{
    int ends[2];

    if (redlane_platform_pair(ends) < 0) {
        return -1;
    }
    (void)pthread_mutex_lock(&relay->lock);
    close_control(relay);
    relay->control = ends[1];
    (void)pthread_mutex_unlock(&relay->lock);
    return ends[0];
}

void
redlane_relay_close(RedlaneRelay *relay)
{
    (void)pthread_mutex_lock(&relay->lock);
    close_control(relay);
    (void)pthread_mutex_unlock(&relay->lock);
}

void
redlane_relay_read_tls(RedlaneRelay *relay, char text[REDLANE_RELAY_TLS_SIZE])
{
    ssize_t got = 0;

    (void)pthread_mutex_lock(&relay->lock);
    while (relay->control >= 0 &&
           ((got = recv(relay->control, relay->hearing + relay->heard,
                        sizeof(relay->hearing) - relay->heard, MSG_DONTWAIT)) > 0 ||
            (got < 0 && errno == EINTR))) {
        relay->heard += got > 0 ? (size_t)got : 0;
        if (relay->heard == sizeof(relay->hearing)) {
            memcpy(relay->tls, relay->hearing, sizeof(relay->tls) - 1);
            relay->heard = 0;
        }
    }
    memcpy(text, relay->tls, sizeof(relay->tls));
    (void)pthread_mutex_unlock(&relay->lock);
}

/* Its buffer has room for thousands; an int goes whole or not at all. */
static int
hand_over(RedlaneRelay *relay, int peer)
{
    ssize_t written = -1;

    (void)pthread_mutex_lock(&relay->lock);
    errno = EPIPE;
    while (relay->control >= 0 &&
           (written = send(relay->control, &peer, sizeof(peer), REDLANE_SEND_FLAGS)) <
               0 &&
           errno == EINTR) {
    }
    (void)pthread_mutex_unlock(&relay->lock);
    return written == (ssize_t)sizeof(peer) ? 0 : -1;
}

int
redlane_relay_dial_nogil(RedlaneRelay *relay, RedlaneTransport *transport,
                         RedlaneFault *fault)
{
    int peer;

    if (redlane_transport_pair_nogil(transport, &peer) < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_CONNECT, "%s", strerror(errno));
        return -1;
    }
    if (hand_over(relay, peer) < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_CONNECT,
                          "the thread that speaks HTTP does not run");
        (void)close(peer);
        redlane_transport_close_nogil(transport, true);
        return -1;
    }
    return 0;
}
