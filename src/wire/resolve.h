/* Names to addresses within a deadline, without the GIL. */
#ifndef REDLANE_WIRE_RESOLVE_H
#define REDLANE_WIRE_RESOLVE_H

#include <stddef.h>
#include <sys/socket.h>

#include "wire/wait.h"

#define REDLANE_MAX_ADDRESSES 16

typedef struct {
    struct sockaddr_storage address;
    socklen_t size;
} RedlaneAddress;

typedef struct {
    size_t count;
    RedlaneAddress items[REDLANE_MAX_ADDRESSES]; /* in the resolver's order */
} RedlaneAddresses;

/* 0, or -1 with a fault (CONNECT when the name has no address, TIMEOUT, PYTHON,
 * MEMORY). A numeric address takes no thread. */
int redlane_resolve_nogil(const char *host, int port, const RedlaneWait *wait,
                          RedlaneAddresses *addresses, RedlaneFault *fault);

#endif
