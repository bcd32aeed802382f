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
int redlane_async_client_setup(PyObject *module);
int redlane_async_pipeline_setup(PyObject *module);

/* The link of a Client or an AsyncClient; BORROWED. TypeError and NULL for another
 * object. */
RedlaneLink *redlane_client_link(RedlaneState *state, PyObject *client);

/* A Client, or an AsyncClient. */
typedef struct RedlaneClient RedlaneClient;

struct RedlaneClient {
    PyObject_HEAD
    RedlaneState *state; /* BORROWED: the type keeps the module */
    RedlaneStore *store; /* NULL until __init__ */
    RedlaneLink *link;
    PyObject *weakrefs;
    RedlanePolicy policy;
    bool decode;
    bool local;     /* memory://: no deadline is needed, nothing waits */
    PyObject *twin; /* the other kind, made of this one; or NULL */
    RedlaneClient
        *origin; /* what this one was made of, BORROWED; NULL once it is gone */
};

/* client_life.c: slots, methods and getters of both kinds. */
PyObject *redlane_client_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs);
int redlane_client_tp_init(PyObject *self, PyObject *args, PyObject *kwargs);
int redlane_client_tp_traverse(PyObject *self, visitproc visit, void *arg);
void redlane_client_tp_dealloc(PyObject *self);
PyObject *redlane_client_tp_repr(PyObject *self);
PyObject *redlane_client_from_env(PyObject *type, PyObject *args, PyObject *kwargs);
extern const char redlane_client_from_env_doc[];
PyObject *redlane_client_get_url(PyObject *self, void *closure);
PyObject *redlane_client_get_closed(PyObject *self, void *closure);
PyObject *redlane_client_get_link_id(PyObject *self, void *closure);
PyObject *redlane_client_get_twin(PyObject *self, void *closure);

/* 0 when the client can be used; else -1 and ConnectionError. */
int redlane_client_check(const RedlaneClient *client);

/* When a call of this client that begins now must be over. */
static inline int64_t
redlane_client_deadline(const RedlaneClient *client)
{
    return client->local /* reading the clock is 20 ns */
               ? REDLANE_NEVER
               : redlane_clock_now() + redlane_link_settings(client->link)->timeout;
}

/* How it wants to be treated. */
static inline RedlaneRequest
redlane_client_request(const RedlaneClient *client)
{
    return (RedlaneRequest){.deadline = redlane_client_deadline(client),
                            .decode = client->decode};
}

/* A new AsyncPipeline of an AsyncClient. */
PyObject *redlane_async_pipeline_new(RedlaneClient *client, bool transaction);

/* The method of both, in subscription_options.c. */
extern const char redlane_client_subscribe_doc[];
PyObject *redlane_client_subscribe(PyObject *client, PyObject *args, PyObject *kwargs);

/* A new Pipeline, or iterator over keys, of a client. */
PyObject *redlane_pipeline_new(RedlaneClient *client, bool transaction);
PyObject *redlane_scan_iterator_new(RedlaneClient *client, PyObject *match,
                                    PyObject *count, PyObject *type);

#endif
