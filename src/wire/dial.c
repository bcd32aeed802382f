#include "wire/dial.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "core/platform.h"
#include "wire/tls.h"

static int
fail_errno(RedlaneFault *fault, int error)
{
    redlane_fault_set(fault, REDLANE_FAULT_CONNECT, "%s", strerror(error));
    return -1;
}

/* Loopback can connect a socket to itself when the server's port is among those that
 * the system gives to clients, and the server is away. */
static bool
is_own_address(int fd)
{
    struct sockaddr_storage own = {0}, peer = {0};
    socklen_t own_size = sizeof(own), peer_size = sizeof(peer);

    return getsockname(fd, (struct sockaddr *)&own, &own_size) == 0 &&
           getpeername(fd, (struct sockaddr *)&peer, &peer_size) == 0 &&
           own.ss_family != AF_UNIX && own_size == peer_size &&
           memcmp(&own, &peer, own_size) == 0;
}

RedlaneDial
redlane_dial_check_nogil(RedlaneTransport *transport, RedlaneFault *fault)
{
    struct pollfd entry = {.fd = transport->fd, .events = POLLOUT};
    socklen_t size = sizeof(int);
    int error = 0;

    if (poll(&entry, 1, 0) <= 0) {
        return REDLANE_DIAL_WAITS;
    }
    if (getsockopt(transport->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) {
        error = errno;
    }
    if (!error && is_own_address(transport->fd)) {
        error = ECONNREFUSED;
    }
    if (error) {
        redlane_transport_close_nogil(transport, true);
        (void)fail_errno(fault, error);
        return REDLANE_DIAL_FAILED;
    }
    return REDLANE_DIAL_DONE;
}

RedlaneDial
redlane_dial_begin_nogil(RedlaneTransport *transport, const RedlaneAddress *address,
                         RedlaneFault *fault)
{
    const struct sockaddr *where = (const struct sockaddr *)&address->address;

    if (transport->fd < 0 &&
        redlane_transport_socket_nogil(transport, where->sa_family) < 0) {
        (void)fail_errno(fault, errno);
        return REDLANE_DIAL_FAILED;
    }
    if (where->sa_family != AF_UNIX) {
        redlane_platform_tune_tcp(transport->fd);
    }
    if (connect(transport->fd, where, address->size) == 0) {
        return redlane_dial_check_nogil(transport, fault);
    }
    if (errno == EINPROGRESS || errno == EINTR) {
        return REDLANE_DIAL_WAITS;
    }
    if (errno == EAGAIN && where->sa_family == AF_UNIX) {
        return REDLANE_DIAL_AGAIN;
    }
    (void)fail_errno(fault, errno);
    redlane_transport_close_nogil(transport, true);
    return REDLANE_DIAL_FAILED;
}

static int
open_address(RedlaneTransport *transport, const RedlaneAddress *address,
             const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlaneDial dial = redlane_dial_begin_nogil(transport, address, fault);

    while (dial == REDLANE_DIAL_WAITS || dial == REDLANE_DIAL_AGAIN) {
        int waited = dial == REDLANE_DIAL_WAITS
                         ? redlane_wait_fd_nogil(wait, transport->fd, POLLOUT, fault)
                         : redlane_wait_pause_nogil(wait, REDLANE_DIAL_PAUSE, fault);

        if (waited == 0 && transport->fd < 0) {
            redlane_fault_set(fault, REDLANE_FAULT_CLOSED, "the process forked");
            return -1;
        }
        if (waited < 0) {
            redlane_transport_close_nogil(transport, true);
            return -1;
        }
        dial = dial == REDLANE_DIAL_WAITS
                   ? redlane_dial_check_nogil(transport, fault)
                   : redlane_dial_begin_nogil(transport, address, fault);
    }
    return dial == REDLANE_DIAL_DONE ? 0 : -1;
}

int
redlane_dial_unix_address(const char *path, RedlaneAddress *address,
                          RedlaneFault *fault)
{
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    size_t length = strlen(path);

    if (length >= sizeof(where.sun_path)) {
        redlane_fault_set(fault, REDLANE_FAULT_CONNECT,
                          "the path of a unix socket has at most %zu bytes",
                          sizeof(where.sun_path) - 1);
        return -1;
    }
    memcpy(where.sun_path, path, length + 1);
    memcpy(&address->address, &where, sizeof(where));
    address->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    return 0;
}

static int
dial_unix(RedlaneTransport *transport, const char *path, const RedlaneWait *wait,
          RedlaneFault *fault)
{
    RedlaneAddress address;

    return redlane_dial_unix_address(path, &address, fault) < 0
               ? -1
               : open_address(transport, &address, wait, fault);
}

static int
dial_tcp(RedlaneTransport *transport, const RedlaneSettings *settings,
         const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlaneAddresses addresses;

    if (redlane_resolve_nogil(settings->host, settings->port, wait, &addresses, fault) <
        0) {
        return -1;
    }
    for (size_t i = 0; i < addresses.count; i++) {
        const RedlaneAddress *item = &addresses.items[i];
        int64_t left = wait->deadline - redlane_clock_now();
        RedlaneWait share =
            redlane_wait_within(wait, left / (int64_t)(addresses.count - i));

        if (open_address(transport, item, &share, fault) == 0) {
            return 0;
        }
        if (fault->kind != REDLANE_FAULT_CONNECT &&
            fault->kind != REDLANE_FAULT_TIMEOUT) {
            return -1;
        }
    }
    return -1;
}

int
redlane_dial_nogil(RedlaneTransport *transport, const RedlaneSettings *settings,
                   const RedlaneWait *wait, RedlaneFault *fault)
{
    int result;

    switch (settings->scheme) {
    case REDLANE_SCHEME_REST:
        result = redlane_relay_dial_nogil(settings->relay, transport, fault);
        break;
    case REDLANE_SCHEME_UNIX:
        result = dial_unix(transport, settings->path, wait, fault);
        break;
    default:
        result = dial_tcp(transport, settings, wait, fault);
    }
    if (result < 0) {
        return -1;
    }
    redlane_transport_connected(transport);
    if (settings->tls && redlane_tls_open_nogil(transport, settings->tls,
                                                settings->host, wait, fault) < 0) {
        redlane_transport_close_nogil(transport, true);
        return -1;
    }
    return 0;
}
