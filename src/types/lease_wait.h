/* Waiting for the lease of another process. Under the GIL, which it gives up. */
#ifndef REDLANE_TYPES_LEASE_WAIT_H
#define REDLANE_TYPES_LEASE_WAIT_H

#include "types/fill.h"
#include "types/flight.h"

typedef enum {
    REDLANE_LEASE_ERROR = -1, /* an exception is set */
    REDLANE_LEASE_LAPSED,     /* it is gone, or an invalidation came: ask again */
    REDLANE_LEASE_VALUE,      /* *stored holds what took its place: a new reference */
    REDLANE_LEASE_HELD,       /* nobody can say */
} RedlaneLeaseEnd;

/* Waits until the lease that `flight` met is no longer in its key's place; for as long
 * as a lease lasts. One that is there even then has lost its end, and goes. */
RedlaneLeaseEnd redlane_lease_wait(const RedlaneFill *fill, const RedlaneFlight *flight,
                                   PyObject **stored);

#endif
