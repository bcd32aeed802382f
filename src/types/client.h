/* What other types need of a Client. GIL held. */
#ifndef REDLANE_TYPES_CLIENT_H
#define REDLANE_TYPES_CLIENT_H

#include <stdbool.h>

#include "core/clock.h"
#include "store/link.h"
#include "types/command_method.h"

int redlane_client_setup(PyObject *module);
int redlane_pipeline_setup(PyObject *module);
int redlane_scan_iterator_setup(PyObject *module);

/* The link of a Client; BORROWED. TypeError and NULL for another object. */
RedlaneLink *redlane_client_link(RedlaneState *state, PyObject *client);

typedef struct {
    PyObject_HEAD
    RedlaneState *state; /* BORROWED: the type keeps the module */
    RedlaneStore *store; /* NULL until __init__ */
    RedlaneLink *link;
    PyObject *weakrefs;
    RedlanePolicy policy;
    bool decode;
    bool local; /* memory://: no deadline is needed, nothing waits */
} RedlaneClient;

/* 0 when the client can be used; else -1 and ConnectionError. */
int redlane_client_check(const RedlaneClient *client);

/* How a call of this client wants to be treated; its deadline begins now. */
static inline RedlaneRequest
redlane_client_request(const RedlaneClient *client)
{
    RedlaneRequest request = {.deadline = REDLANE_NEVER, .decode = client->decode};

    if (!client->local) { /* reading the clock is 20 ns */
        request.deadline =
            redlane_clock_now() + redlane_link_settings(client->link)->timeout;
    }
    return request;
}

/* A new Pipeline, or iterator over keys, of a client. */
PyObject *redlane_pipeline_new(RedlaneClient *client, bool transaction);
PyObject *redlane_scan_iterator_new(RedlaneClient *client, PyObject *match,
                                    PyObject *count, PyObject *type);

#endif
