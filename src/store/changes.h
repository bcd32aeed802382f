/* What a request that did not reach the server means for the journal.
 *
 * Taken from the vectors and from the replies that were given in the server's place, so
 * that every tool and raw commands follow one set of rules:
 *
 *   DEL, UNLINK, GETDEL                    a delete
 *   SET, MSET, the scripts FILL and ADD    without TTL, or `durable`: the value, to be
 *                                          stored where nothing is; else a delete
 *   VIDEO_SET                              the value, whatever its TTL
 *   COOLDOWN that began                    the same
 *   TOUCH                                  a delete: the value may now end sooner
 *   COUNTER_ADD, COUNTER_TRANSFER          a delete, for the source knows the number;
 *                                          without a source the amounts
 *   INCR …, the script INCREMENT           the amount
 *   LIMIT that admitted, or gave back      a charge to its limits
 *   a lease placed without NX              a delete: it replaced what was there
 *   other leases, RELEASE, all else        nothing
 *
 * With the GIL; the vectors' bytes are BORROWED. */
#ifndef REDLANE_STORE_CHANGES_H
#define REDLANE_STORE_CHANGES_H

#include "core/journal.h"
#include "store/link.h"
#include "store/store.h"

#define REDLANE_CHANGES_INLINE 4

typedef struct {
    RedlaneChange *list;
    size_t count, capacity;
    RedlaneChange inline_list[REDLANE_CHANGES_INLINE]; /* must not move */
} RedlaneChanges;

void redlane_changes_init(RedlaneChanges *changes);
void redlane_changes_clear(RedlaneChanges *changes);

/* Adds what one vector and the reply to it mean. `unsure`: the server may have executed
 * it already, so amounts are not sent again. RAISES_NEG: MemoryError. */
int redlane_changes_add(RedlaneChanges *changes, const RedlaneRequest *request,
                        RedlanePolicy policy, const RedlaneVector *vector,
                        PyObject *reply, bool unsure);

#endif
