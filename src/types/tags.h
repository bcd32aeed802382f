/* The tags of one value, and what generation each has: a random number in a key of its
 * own, which the value's envelope repeats. A value whose tags have other generations by
 * now, or none, is a miss; so deleting that one key ends all that carry the tag.
 *
 *   {prefix}:@tag:{text}        the generation of a tag (of a long one: # and SHA-256)
 *   {prefix}:@namespace         that of a namespace: its prefix is {parent's}:{name}
 *
 * In an envelope a tag's id is that whole key. Under the GIL. */
#ifndef REDLANE_TYPES_TAGS_H
#define REDLANE_TYPES_TAGS_H

#include "core/envelope.h"
#include "near/near.h"
#include "types/tool.h"

typedef struct {
    size_t count;
    bool known;                                /* all generations were read */
    bool there[REDLANE_ENVELOPE_TAGS_MAX];     /* which were */
    int64_t asked_ms;                          /* the TTL that they were made for */
    PyObject *keys[REDLANE_ENVELOPE_TAGS_MAX]; /* bytes */
    RedlaneEnvelopeTag items[REDLANE_ENVELOPE_TAGS_MAX];
    RedlaneNearTicket tickets[REDLANE_ENVELOPE_TAGS_MAX]; /* of before they were read */
} RedlaneTags;

/* None; freed by redlane_tags_free (NULL is allowed). NULL with a MemoryError. */
RedlaneTags *redlane_tags_new(void);
void redlane_tags_free(RedlaneTags *tags);

/* Adds the key of a generation, once. RAISES_NEG: ValueError where there are too many.
 */
int redlane_tags_add_key(RedlaneTags *tags, const char *data, size_t size);
int redlane_tags_add_keys(RedlaneTags *tags, PyObject *keys); /* a tuple of bytes */

/* Adds a tag by its text, str or bytes; `head` (str) is what its cache's keys begin
 * with. RAISES_NEG */
int redlane_tags_add(RedlaneTags *tags, RedlaneState *state, PyObject *head,
                     PyObject *text);

/* Adds a str, bytes, or each of an iterable of them. RAISES_NEG */
int redlane_tags_add_all(RedlaneTags *tags, RedlaneState *state, PyObject *head,
                         PyObject *given);

/* The command that reads the generations: with `make` those that are missing are made,
 * and all live for `ttl_ms` more at least (0: for ever). */
typedef struct {
    RedlaneVector vector;
    RedlaneArg argv[REDLANE_ENVELOPE_TAGS_MAX + 5];
    char generation[REDLANE_GENERATION_SIZE];
    char digits[2][24];
} RedlaneTagsCommand;

void redlane_tags_command(const RedlaneTags *tags, bool make, int64_t ttl_ms,
                          RedlaneTagsCommand *command);

/* Takes the tickets; before the command is sent. */
void redlane_tags_ticket(RedlaneTags *tags, RedlaneNear *near);

/* Its reply: `known` is true if all is there. */
void redlane_tags_take(RedlaneTags *tags, PyObject *reply);

/* Both in a round trip of its own. RAISES_NEG */
int redlane_tags_ask(RedlaneTags *tags, RedlaneTool *tool, bool make, int64_t ttl_ms,
                     const RedlaneToolManner *manner);

/* The tag with that id, or NULL; BORROWED. */
const RedlaneEnvelopeTag *redlane_tags_find(const RedlaneTags *tags, const char *id,
                                            size_t size);

/* Whether a header carries all of them, as they are known; of whatever generation. */
bool redlane_tags_are_in(const RedlaneTags *tags, const RedlaneEnvelope *header);
bool redlane_tags_are_named_in(const RedlaneTags *tags, const RedlaneEnvelope *header);

#endif
