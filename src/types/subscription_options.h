/* What Client.subscribe() is given. GIL held. */
#ifndef REDLANE_TYPES_SUBSCRIPTION_OPTIONS_H
#define REDLANE_TYPES_SUBSCRIPTION_OPTIONS_H

#include "types/subscription.h"

/* Seconds from now as a moment on CLOCK_MONOTONIC; None leaves it. RAISES_NEG */
int redlane_subscription_deadline(PyObject *timeout, int64_t *deadline);

/* Reads the arguments and subscribes: fills in feed, channels, patterns and on_gap.
 * RAISES_NEG */
int redlane_subscription_open(RedlaneSubscription *self, PyObject *args,
                              PyObject *kwargs);

#endif
