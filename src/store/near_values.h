/* The values of a near cache as this process has them: Python objects, and which
 * commands make an end of them. GIL held. */
#ifndef REDLANE_STORE_NEAR_VALUES_H
#define REDLANE_STORE_NEAR_VALUES_H

#include "store/store.h"

/* Who can use an object: what decoded it. */
typedef uint64_t RedlaneNearForm;

enum {
    REDLANE_NEAR_FORM_STORED, /* the stored bytes, which everybody can decode */
    REDLANE_NEAR_FORM_JSON,
    REDLANE_NEAR_FORM_RAW,
    REDLANE_NEAR_FORM_MSGPACK,
    REDLANE_NEAR_FORM_OWN, /* from here on: whoever drew that number */
};

/* A number that nobody else has. */
RedlaneNearForm redlane_near_form_new(void);

/* RedlaneNearEntry.value */
typedef struct {
    PyObject *object;
    RedlaneNearForm form;
    uint64_t asked_for; /* a number for the tags that it was asked to have; 0: none */
} RedlaneNearValue;

#define REDLANE_NEAR_MAX_BYTES ((size_t)32 << 20)

/* Holds `object`. NULL when memory is exhausted; no exception. */
RedlaneNearValue *redlane_near_value_new(PyObject *object, RedlaneNearForm form,
                                         uint64_t asked_for);

/* Releases it, or what redlane_near_entry_release returned; NULL is allowed. Any Python
 * code may run. */
void redlane_near_value_free(void *value);

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
