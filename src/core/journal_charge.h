/* What a limit admitted while the server was away, as the journal keeps it: the state
 * that it alone would make, so that replay charges as much of it as counts still.
 *
 * Pure C, no lock of its own: the journal's owner's. */
#ifndef REDLANE_CORE_JOURNAL_CHARGE_H
#define REDLANE_CORE_JOURNAL_CHARGE_H

#include "core/limit.h"

typedef struct {
    RedlaneLimit limit;
    RedlaneLimitState state;
    size_t first, end, capacity; /* LOG: of its times, those that may count */
    char times[];
} RedlaneCharge;

/* Bytes of a charge, 0 for NULL; and by how many one more of that cost may grow it. */
size_t redlane_charge_size(const RedlaneCharge *charge);
size_t redlane_charge_growth(const RedlaneCharge *charge, const RedlaneLimit *limit,
                             int64_t cost);

/* Whether what that limit admits can be added: two of one key, of another kind or
 * length of log, cannot. */
bool redlane_charge_fits(const RedlaneCharge *charge, const RedlaneLimit *limit);

/* Adds what was admitted at `now`, or, of a negative cost, gives it back; makes the
 * charge where there is none. It fits. `index`: of a FIXED limit, whose other windows
 * are gone. False: no memory, and it is as it was. */
bool redlane_charge_add(RedlaneCharge **charge, const RedlaneLimit *limit,
                        int64_t index, int64_t cost, int64_t now);

/* Whether any of it counts still at Unix microseconds `now`; drops what does not. */
bool redlane_charge_counts(RedlaneCharge *charge, int64_t now);

#endif
