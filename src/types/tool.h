/* What every tool (Cache, Counter, VideoCache) needs of a client: the link, found on
 * first use, and the store of the tool's own policy. Under the GIL. */
#ifndef REDLANE_TYPES_TOOL_H
#define REDLANE_TYPES_TOOL_H

#include "core/script.h"
#include "py/state.h"
#include "store/link.h"
#include "store/store.h"

typedef struct {
    RedlaneState *state; /* BORROWED */
    PyObject *target;    /* a Client, a URL, or None for the default client */
    PyObject *client;    /* the Client in use, or NULL before the first use */
    RedlaneLink *link;   /* held; NULL before the first use */
    RedlaneStore *store; /* held */
    RedlaneNear *near;   /* of the link, once asked for; or NULL */
    bool near_asked;     /* of this link */
    PyObject *space;     /* bytes: a glob that matches all its keys, or NULL */
    RedlanePolicy policy;
    unsigned long long default_version; /* of the default client in use */
    bool old_server;                    /* knows no SET NX GET: before Redis 7 */
} RedlaneTool;

/* `target` as above, else a TypeError; nothing is connected. RAISES_NEG */
int redlane_tool_init(RedlaneTool *tool, RedlaneState *state, PyObject *target,
                      RedlanePolicy policy);
int redlane_tool_traverse(RedlaneTool *tool, visitproc visit, void *arg);
void redlane_tool_clear(RedlaneTool *tool);

/* Module function for redlane._default: _default_changed. RAISES_NEG */
int redlane_tool_setup(PyObject *module);

/* "raise", "memory" or "none". RAISES_NEG */
int redlane_tool_policy(PyObject *name, RedlanePolicy *policy);

/* Finds client, link and store; later calls use it. RAISES_NEG */
int redlane_tool_resolve(RedlaneTool *tool);

/* True while the link is that of the client meant: the default client may be another.
 */
static inline bool
redlane_tool_is_current(const RedlaneTool *tool)
{
    return tool->target != Py_None ||
           tool->default_version == tool->state->default_version;
}

/* The near cache of the link, with keys of `prefix` watched, or NULL (no exception): so
 * also where the server tells of no change, unless `blind`. BORROWED: it lives as long
 * as the link. */
RedlaneNear *redlane_tool_near(RedlaneTool *tool, RedlaneArg prefix, bool blind);

/* How a command wants to be treated: store.h says what each means. */
typedef struct {
    bool read; /* RedlaneRequest.cache_read */
    bool durable;
    bool unsourced;
    RedlaneAnswer *answer;      /* REDLANE_ANSWER_SERVER beforehand, or NULL */
    RedlaneNearRead *near_read; /* or NULL */
} RedlaneToolManner;

/* Runs one command, `argv` without its name: a new reference, or NULL. A `read` may be
 * answered as a miss while the link is suspect. */
PyObject *redlane_tool_execute(RedlaneTool *tool, RedlaneCommandId id,
                               const RedlaneArg *argv, size_t argc, bool read);
PyObject *redlane_tool_execute_as(RedlaneTool *tool, RedlaneCommandId id,
                                  const RedlaneArg *argv, size_t argc,
                                  const RedlaneToolManner *manner);

/* The same and PTTL of its first argument, in one round trip. *pttl is a new reference
 * where the result is one. */
PyObject *redlane_tool_execute_pttl(RedlaneTool *tool, RedlaneCommandId id,
                                    const RedlaneArg *argv, size_t argc,
                                    const RedlaneToolManner *manner, PyObject **pttl);

#define REDLANE_TOOL_ARGS 8 /* the most that execute and script take */

/* Runs vectors in one round trip, as RedlaneStoreOps.run. RAISES_NEG */
int redlane_tool_run(RedlaneTool *tool, const RedlaneVector *vectors, size_t count,
                     const RedlaneToolManner *manner, PyObject **replies);

/* All that matches was deleted, with that answer: what did not reach the server is kept
 * for it. RAISES_NEG */
int redlane_tool_forget(RedlaneTool *tool, RedlaneArg pattern, RedlaneAnswer answer);

/* Runs a script: `keys` of the arguments are keys. EVALSHA, then EVAL where the server
 * does not know it. */
PyObject *redlane_tool_script(RedlaneTool *tool, RedlaneScriptId id,
                              const RedlaneArg *argv, size_t argc, size_t keys,
                              const RedlaneToolManner *manner);

/* The same with any number of arguments: `named` has room for three before them, `argc`
 * counts those behind; nine keys at most. */
PyObject *redlane_tool_script_in_place(RedlaneTool *tool, RedlaneScriptId id,
                                       RedlaneArg *named, size_t argc, size_t keys,
                                       const RedlaneToolManner *manner);

/* In a flow, the same without waiting for the answer, of which nobody hears. False: it
 * is no flow, or nothing was sent (no exception). */
bool redlane_tool_script_behind(RedlaneTool *tool, RedlaneScriptId id,
                                const RedlaneArg *argv, size_t argc, size_t keys);

/* The two manners that most commands have. */
extern const RedlaneToolManner redlane_tool_reads, redlane_tool_writes;

/* "redis", "memory" or "none": which executor answers now. A new str, or NULL. */
PyObject *redlane_tool_cache_type(RedlaneTool *tool);

#endif
