/* What a feed holds: a message, or word of a gap. Written once, then shared by all
 * feeds that it is for, by atomic references. No Python, no lock. */
#ifndef REDLANE_PUBSUB_LETTER_H
#define REDLANE_PUBSUB_LETTER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/vector.h"

typedef struct {
    atomic_size_t references;
    bool is_gap;
    bool by_pattern;     /* message */
    uint32_t topic_size; /* of the pattern */
    uint32_t channel_size;
    size_t size;      /* of the payload, or of a gap's reason */
    uint64_t dropped; /* gap: so many messages, 0 where nobody can know */
    int64_t length;   /* gap: for so many ns nothing was heard, 0: none */
    char bytes[];     /* pattern, channel, payload; or the reason */
} RedlaneLetter;

/* Each NULL when memory is exhausted. */
RedlaneLetter *redlane_letter_message(RedlaneArg channel, const RedlaneArg *pattern,
                                      RedlaneArg payload);
RedlaneLetter *redlane_letter_gap(const char *reason, uint64_t dropped, int64_t length);

static inline RedlaneLetter *
redlane_letter_hold(RedlaneLetter *letter)
{
    (void)atomic_fetch_add_explicit(&letter->references, 1, memory_order_relaxed);
    return letter;
}

void redlane_letter_release(RedlaneLetter *letter); /* or NULL */

/* Bytes that a bound counts for it. */
static inline size_t
redlane_letter_bytes(const RedlaneLetter *letter)
{
    return sizeof(*letter) + letter->topic_size + letter->channel_size + letter->size;
}

static inline RedlaneArg
redlane_letter_pattern(const RedlaneLetter *letter)
{
    return (RedlaneArg){letter->bytes, letter->topic_size};
}

static inline RedlaneArg
redlane_letter_channel(const RedlaneLetter *letter)
{
    return (RedlaneArg){letter->bytes + letter->topic_size, letter->channel_size};
}

static inline RedlaneArg
redlane_letter_payload(const RedlaneLetter *letter)
{
    return (RedlaneArg){letter->bytes + letter->topic_size + letter->channel_size,
                        letter->size};
}

#endif
