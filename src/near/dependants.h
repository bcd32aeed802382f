/* Which near values end when a key changes: those that carry a tag, by the key of its
 * generation. Pairs of hashes: where two keys share one, more ends than must.
 *
 *   heads[key's hash] ──▶ link ──next─▶ link …      links: one array, dense
 *
 * A value that was replaced or evicted leaves its links behind. When the array is full
 * those without a value go, and what is there twice; if that frees less than half, the
 * array grows. */
#ifndef REDLANE_NEAR_DEPENDANTS_H
#define REDLANE_NEAR_DEPENDANTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t key, value; /* hashes */
    uint32_t next;       /* index + 1; 0: the last */
    bool killed;         /* in the free list */
} RedlaneNearBond;

typedef struct {
    pthread_mutex_t lock;   /* all of it */
    RedlaneNearBond *links; /* `count` of `size`, a power of two, or NULL */
    uint32_t *heads;        /* `size`: index + 1, or 0 */
    uint32_t free;          /* index + 1 of the links that were killed; 0: none */
    size_t count, size;
    atomic_size_t live; /* links that are in a chain: whether to look at all */
} RedlaneNearDependants;

/* Of one place for a link; and what a link counts for in its value's cost: up to half
 * of the places are empty, or hold links that wait to be dropped. So what is alive
 * fills no more than half of the most that there may be, and dropping the rest makes
 * room. */
#define REDLANE_NEAR_DEPENDANT_PLACE (sizeof(RedlaneNearBond) + sizeof(uint32_t))
#define REDLANE_NEAR_DEPENDANT_COST (2 * REDLANE_NEAR_DEPENDANT_PLACE)

void redlane_near_dependants_init(RedlaneNearDependants *dependants);
void redlane_near_dependants_free(RedlaneNearDependants *dependants);

#endif
