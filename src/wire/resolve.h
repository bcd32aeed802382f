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

/* The same in steps, for one that waits by itself. */
typedef struct RedlaneLookup RedlaneLookup;

/* 1 with the addresses of what needs no look-up; 0 with a lookup under way, which is
 * the caller's to release; -1 with a fault. */
int redlane_resolve_begin_nogil(const char *host, int port, RedlaneLookup **lookup,
                                RedlaneAddresses *addresses, RedlaneFault *fault);

/* Becomes readable when it is over. */
int redlane_lookup_descriptor(const RedlaneLookup *lookup);

/* 1 with the addresses, 0 when it is not over, -1 with a fault. */
int redlane_lookup_result(const RedlaneLookup *lookup, RedlaneAddresses *addresses,
                          RedlaneFault *fault);

/* Gives it up, over or not; NULL is allowed. */
void redlane_lookup_release(RedlaneLookup *lookup);

#endif
