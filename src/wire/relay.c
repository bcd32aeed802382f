#include "wire/relay.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
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
    int ends[2] = {-1, -1};

    (void)pthread_mutex_lock(&relay->lock); /* else a child may have a copy of both */
    if (redlane_platform_pair(ends) == 0) {
        close_control(relay);
        relay->control = ends[1];
    }
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

/* One byte with the descriptor beside it. What is on its way is the system's, which
 * closes it where nobody takes it: whoever waits at the other end sees that at once. */
static ssize_t
send_descriptor(int control, int peer)
{
    union {
        struct cmsghdr head; /* for its alignment */
        char data[CMSG_SPACE(sizeof(int))];
    } beside = {0};
    char byte = 0;
    struct iovec piece = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = beside.data,
                             .msg_controllen = sizeof(beside.data)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);

    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(peer));
    memcpy(CMSG_DATA(head), &peer, sizeof(peer));
    return sendmsg(control, &message, REDLANE_SEND_FLAGS);
}

/* Takes the peer, also where it fails. */
static int
hand_over(RedlaneRelay *relay, int peer)
{
    ssize_t written = -1;

    (void)pthread_mutex_lock(&relay->lock);
    while (relay->control >= 0 &&
           (written = send_descriptor(relay->control, peer)) < 0 && errno == EINTR) {
    }
    if (written < 0 && relay->control >= 0 && (errno == EPIPE || errno == ECONNRESET)) {
        close_control(relay); /* its thread has ended: the next call starts another */
    }
    (void)pthread_mutex_unlock(&relay->lock);
    (void)close(peer);
    return written == 1 ? 0 : -1;
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
        redlane_transport_close_nogil(transport, true);
        return -1;
    }
    return 0;
}
