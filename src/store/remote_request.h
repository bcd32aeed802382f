/* Inside store/: what a request is on the wire, and what its replies mean, whoever
 * drives the connection. GIL held. */
#ifndef REDLANE_STORE_REMOTE_REQUEST_H
#define REDLANE_STORE_REMOTE_REQUEST_H

#include "store/remote.h"

typedef struct {
    bool repeatable;  /* it only reads: it may be sent twice */
    bool blocking;    /* it needs a connection of its own */
    int64_t deadline; /* the request's, with the time that it blocks */
    size_t elements;  /* that it may ask for in one array */
} RedlaneSurvey;

RedlaneSurvey redlane_remote_survey(const RedlaneRequest *request,
                                    const RedlaneVector *vectors, size_t count);

/* Raises a fault that a request met. */
void redlane_remote_raise(RedlaneState *state, const RedlaneSettings *settings,
                          const RedlaneFault *fault, const RedlaneVector *vectors,
                          size_t count);

/* Raises an error reply, with another as its context. STEALS both (context may be
 * NULL).
 */
void redlane_remote_raise_reply(PyObject *STEALS error, PyObject *STEALS context);

/* Tells what an error reply says of the server itself; "away" outweighs "no writes".
 * RAISES_NEG */
int redlane_remote_note_outage(RedlaneState *state, PyObject *reply,
                               RedlaneRemoteReport *report);

/* A server that was restarted, or told to forget its scripts, does not know ours: true
 * where its text is to go once, in place of the hash. */
bool redlane_remote_wants_text(const RedlaneState *state, const RedlaneRequest *request,
                               const RedlaneVector *vector, PyObject *reply);

/* That vector, whose argv is the caller's to PyMem_Free. 1, 0 when the script is none
 * of ours. RAISES_NEG */
int redlane_remote_script_text(const RedlaneVector *vector, RedlaneVector *whole);

/* Takes MULTI's, the QUEUED and EXEC's replies apart; they stay the caller's.
 * RAISES_NEG */
int redlane_remote_unpack(RedlaneState *state, PyObject **all, size_t count,
                          PyObject **replies, RedlaneRemoteReport *report);

#endif
