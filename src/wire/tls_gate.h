/* Inside wire/tls*.c: who may be in OpenSSL at all.
 *
 * OpenSSL has locks that live through fork as they are, and frees what its threads
 * share when the process ends. So every call into it stands between enter and leave,
 * which forks and the exit keep out: a fork waits for those inside, who never wait for
 * a peer themselves; after the exit has begun nobody enters. */
#ifndef REDLANE_WIRE_TLS_GATE_H
#define REDLANE_WIRE_TLS_GATE_H

#include <stdbool.h>

/* Also empties this thread's queue of OpenSSL errors: what another left there would be
 * taken for ours. False when the process ends or memory is exhausted: stay out. Not to
 * be entered twice. */
bool redlane_tls_enter(void);

/* Leaves no error of ours in the queue. */
void redlane_tls_leave(void);

#endif
