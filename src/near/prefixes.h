/* A set of key prefixes of which none begins another one: the server refuses to track
 * overlapping ones. Sorted by bytes, so that only the last one that is not after a key
 * can be the key's.
 *
 * Never changed once made, hence shared by atomic references. */
#ifndef REDLANE_NEAR_PREFIXES_H
#define REDLANE_NEAR_PREFIXES_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/vector.h"

typedef struct {
    atomic_size_t references;
    size_t count;
    RedlaneArg items[]; /* their bytes stand behind */
} RedlaneNearPrefixes;

/* `set` (or nothing, where it is NULL) and one more prefix: with a new reference; the
 * same set if it covers it. NULL when memory is exhausted. */
RedlaneNearPrefixes *redlane_near_prefixes_with(RedlaneNearPrefixes *set,
                                                const char *prefix, size_t size);

/* True where one of them begins the key; false for NULL. */
bool redlane_near_prefixes_cover(const RedlaneNearPrefixes *set, const char *key,
                                 size_t size);

RedlaneNearPrefixes *redlane_near_prefixes_hold(RedlaneNearPrefixes *set); /* or NULL */
void redlane_near_prefixes_release(RedlaneNearPrefixes *set);              /* or NULL */

#endif
