/* The values of a near cache as this process has them: Python objects, and which
 * commands make an end of them. GIL held. */
#ifndef REDLANE_STORE_NEAR_VALUES_H
#define REDLANE_STORE_NEAR_VALUES_H

#include "store/store.h"

/* RedlaneNearEntry.value is a PyObject *, its form says who can use it: what decoded
 * it.
 */
typedef uint32_t RedlaneNearForm;

enum {
    REDLANE_NEAR_FORM_STORED, /* the stored bytes, which everybody can decode */
    REDLANE_NEAR_FORM_JSON,
    REDLANE_NEAR_FORM_RAW,
    REDLANE_NEAR_FORM_MSGPACK,
    REDLANE_NEAR_FORM_OWN, /* from here on: whoever drew that number */
};

/* A number that nobody else has; FORM_STORED where all are taken (after 268 million):
 * values are decoded afresh then. */
RedlaneNearForm redlane_near_form_new(void);

/* The form of what a namespace decodes as its parent does, but may not get from it. */
RedlaneNearForm redlane_near_form_within(RedlaneNearForm parent);

#define REDLANE_NEAR_MAX_BYTES ((size_t)32 << 20)

/* Releases what redlane_near_entry_release returned; NULL is allowed. Any Python code
 * may run. */
static inline void
redlane_near_value_free(void *value)
{
    Py_XDECREF((PyObject *)value);
}

/* Releases values that died, `limit` of them at most. Any Python code may run. */
void redlane_near_free_dead(RedlaneNear *near, size_t limit);

/* Ends all values and the thread; values that somebody holds go with him. */
void redlane_near_shut(RedlaneNear *near);

/* True for a request that changes keys, by any command. One that only places leases
 * changes no value. */
bool redlane_near_is_write(const RedlaneRequest *request, const RedlaneVector *vectors,
                           size_t count);

/* Ends the values of all keys that such a request may change, in every near cache of
 * the server: before it is sent, and after its end. */
void redlane_near_note_write(const RedlaneSettings *settings,
                             const RedlaneVector *vectors, size_t count);

/* The same for all keys that a pattern may match. */
void redlane_near_note_pattern(const RedlaneSettings *settings, RedlaneArg pattern);

#endif
