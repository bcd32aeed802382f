#include "wire/dial.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include "core/platform.h"
#include "wire/resolve.h"
#include "wire/tls.h"

/* A unix socket whose backlog is full refuses at once: how long until the next try. */
#define UNIX_RETRY (2 * REDLANE_NS_PER_MS)

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

/* Waits for a connect that is under way. */
static int
finish_connect(RedlaneTransport *transport, const RedlaneWait *wait,
               RedlaneFault *fault)
{
    struct pollfd entry = {.events = POLLOUT};
    socklen_t size = sizeof(int);
    int error = 0;

    do {
        if (redlane_wait_fd_nogil(wait, transport->fd, POLLOUT, fault) < 0) {
            return -1;
        }
        if (transport->fd < 0) {
            redlane_fault_set(fault, REDLANE_FAULT_CLOSED, "the process forked");
            return -1;
        }
        entry.fd = transport->fd;
    } while (poll(&entry, 1, 0) <= 0);
    if (getsockopt(transport->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) {
        error = errno;
    }
    return error ? fail_errno(fault, error) : 0;
}

static int
connect_address(RedlaneTransport *transport, const struct sockaddr *address,
                socklen_t size, const RedlaneWait *wait, RedlaneFault *fault)
{
    while (connect(transport->fd, address, size) < 0) {
        if (errno == EINPROGRESS || errno == EINTR) {
            return finish_connect(transport, wait, fault);
        }
        if (errno != EAGAIN || address->sa_family != AF_UNIX) {
            return fail_errno(fault, errno);
        }
        if (redlane_wait_pause_nogil(wait, UNIX_RETRY, fault) < 0) {
            return -1;
        }
        if (transport->fd < 0) {
            redlane_fault_set(fault, REDLANE_FAULT_CLOSED, "the process forked");
            return -1;
        }
    }
    return 0;
}

static int
open_address(RedlaneTransport *transport, const struct sockaddr *address,
             socklen_t size, const RedlaneWait *wait, RedlaneFault *fault)
{
    if (redlane_transport_socket_nogil(transport, address->sa_family) < 0) {
        return fail_errno(fault, errno);
    }
    if (connect_address(transport, address, size, wait, fault) < 0) {
        redlane_transport_close_nogil(transport, true);
        return -1;
    }
    if (is_own_address(transport->fd)) {
        redlane_transport_close_nogil(transport, true);
        return fail_errno(fault, ECONNREFUSED);
    }
    return 0;
}

static int
dial_unix(RedlaneTransport *transport, const char *path, const RedlaneWait *wait,
          RedlaneFault *fault)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);

    if (length >= sizeof(address.sun_path)) {
        redlane_fault_set(fault, REDLANE_FAULT_CONNECT,
                          "the path of a unix socket has at most %zu bytes",
                          sizeof(address.sun_path) - 1);
        return -1;
    }
    memcpy(address.sun_path, path, length + 1);
    return open_address(
        transport, (const struct sockaddr *)&address,
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1), wait, fault);
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

        if (open_address(transport, (const struct sockaddr *)&item->address, item->size,
                         &share, fault) == 0) {
            redlane_platform_tune_tcp(transport->fd);
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
    int result = settings->scheme == REDLANE_SCHEME_UNIX
                     ? dial_unix(transport, settings->path, wait, fault)
                     : dial_tcp(transport, settings, wait, fault);

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
