/* getaddrinfo cannot be interrupted: a name is looked up by a thread of its own, which
 * is abandoned at the deadline and frees what it shares with the caller when it ends.
 *
 * The two share a RedlaneLookup (atomic references) and a pipe. The caller waits for
 * the end of file that the thread's closing of its end makes, rather than for a
 * condition: a child made by fork meanwhile has no such thread, and must not find a
 * mutex locked. */
#include "wire/resolve.h"

#include <netdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/platform.h"

struct RedlaneLookup {
    atomic_int references;
    int done_reader;   /* the caller's end of the pipe */
    int done_writer;   /* the thread's end */
    atomic_bool ready; /* error and addresses may be read */
    int error;         /* of getaddrinfo */
    RedlaneAddresses addresses;
    char port[8];
    char host[]; /* terminated */
};

static void
copy_addresses(const struct addrinfo *found, RedlaneAddresses *addresses)
{
    addresses->count = 0;
    for (; found && addresses->count < REDLANE_MAX_ADDRESSES; found = found->ai_next) {
        RedlaneAddress *item = &addresses->items[addresses->count];

        if (found->ai_addrlen <= sizeof(item->address)) {
            memcpy(&item->address, found->ai_addr, found->ai_addrlen);
            item->size = found->ai_addrlen;
            addresses->count++;
        }
    }
}

static int
look_up(const char *host, const char *port, int flags, RedlaneAddresses *addresses)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = flags | AI_NUMERICSERV,
    };
    struct addrinfo *found = NULL;
    int error = getaddrinfo(host, port, &hints, &found);

    if (error == 0) {
        copy_addresses(found, addresses);
        freeaddrinfo(found);
    }
    return error;
}

static void *
lookup_thread(void *argument)
{
    RedlaneLookup *lookup = argument;

    lookup->error = look_up(lookup->host, lookup->port, 0, &lookup->addresses);
    atomic_store(&lookup->ready, true);
    (void)close(lookup->done_writer);
    redlane_lookup_release(lookup);
    return NULL;
}

static RedlaneLookup *
lookup_start(const char *host, const char *port, RedlaneFault *fault)
{
    size_t size = strlen(host) + 1;
    RedlaneLookup *lookup = calloc(1, sizeof(*lookup) + size);
    int ends[2], error;

    if (!lookup) {
        redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
        return NULL;
    }
    if (redlane_platform_pipe(ends) < 0) {
        redlane_fault_set(fault, REDLANE_FAULT_CONNECT, "no descriptor to look up %s",
                          host);
        free(lookup);
        return NULL;
    }
    atomic_init(&lookup->references, 2);
    atomic_init(&lookup->ready, false);
    lookup->done_reader = ends[0];
    lookup->done_writer = ends[1];
    memcpy(lookup->host, host, size);
    (void)snprintf(lookup->port, sizeof(lookup->port), "%s", port);
    error = redlane_platform_thread(lookup_thread, lookup);
    if (error) {
        redlane_fault_set(fault, REDLANE_FAULT_CONNECT, "no thread to look up %s: %s",
                          host, strerror(error));
        (void)close(ends[0]);
        (void)close(ends[1]);
        free(lookup);
        return NULL;
    }
    return lookup;
}

int
redlane_lookup_descriptor(const RedlaneLookup *lookup)
{
    return lookup->done_reader;
}

void
redlane_lookup_release(RedlaneLookup *lookup)
{
    if (lookup && atomic_fetch_sub(&lookup->references, 1) == 1) {
        (void)close(lookup->done_reader);
        free(lookup);
    }
}

int
redlane_lookup_result(const RedlaneLookup *lookup, RedlaneAddresses *addresses,
                      RedlaneFault *fault)
{
    if (!atomic_load(&lookup->ready)) {
        return 0;
    }
    if (lookup->error != 0 || lookup->addresses.count == 0) {
        redlane_fault_set(fault, REDLANE_FAULT_CONNECT, "%s",
                          lookup->error ? gai_strerror(lookup->error)
                                        : "the name has no address");
        return -1;
    }
    *addresses = lookup->addresses;
    return 1;
}

int
redlane_resolve_begin_nogil(const char *host, int port, RedlaneLookup **lookup,
                            RedlaneAddresses *addresses, RedlaneFault *fault)
{
    char number[8];

    (void)snprintf(number, sizeof(number), "%d", port);
    if (look_up(host, number, AI_NUMERICHOST, addresses) == 0) {
        return 1;
    }
    *lookup = lookup_start(host, number, fault);
    return *lookup ? 0 : -1;
}

int
redlane_resolve_nogil(const char *host, int port, const RedlaneWait *wait,
                      RedlaneAddresses *addresses, RedlaneFault *fault)
{
    RedlaneLookup *lookup = NULL;
    int result = redlane_resolve_begin_nogil(host, port, &lookup, addresses, fault);

    while (result == 0) {
        if (redlane_wait_fd_nogil(wait, lookup->done_reader, POLLIN, fault) < 0) {
            result = -1;
            break;
        }
        result = redlane_lookup_result(lookup, addresses, fault);
    }
    redlane_lookup_release(lookup);
    return result < 0 ? -1 : 0;
}
