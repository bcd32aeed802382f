/* A near value, as those hold it that hand it out.
 *
 * All but the atomics is written before anybody else sees the entry, and never again.
 * There may be a hundred thousand: what surrounds them is kept small.
 * A reference keeps the entry and its value in memory, dead or alive. References are
 * taken and given back by whoever has the GIL (the invalidation thread gives back the
 * table's own). */
#ifndef REDLANE_NEAR_ENTRY_H
#define REDLANE_NEAR_ENTRY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    atomic_uint_fast64_t generation; /* of its near cache when it was stored; 0: dead */
    int64_t deadline;                /* redlane_clock_coarse ns, a tick early */
    void *value;                     /* the owner's, with what it calls its form: */
    uint32_t form;                   /* both are opaque here */
    atomic_uint references;          /* so many times REFERENCE, and perhaps VISITED */
} RedlaneNearEntry;

enum {
    REDLANE_NEAR_VISITED = 1, /* used since the eviction's hand was here */
    REDLANE_NEAR_REFERENCE = 2,
};

/* Another reference for one who has one. */
static inline RedlaneNearEntry *
redlane_near_entry_hold(RedlaneNearEntry *entry)
{
    (void)atomic_fetch_add_explicit(&entry->references, REDLANE_NEAR_REFERENCE,
                                    memory_order_relaxed);
    return entry;
}

/* Gives a reference back. NULL, or the value, which is the caller's from here on, when
 * it was the last one: the entry is freed. */
void *redlane_near_entry_release(RedlaneNearEntry *entry);

/* What it was counted for, its value included. */
size_t redlane_near_entry_bytes(const RedlaneNearEntry *entry);

#endif
