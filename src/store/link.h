/* A link: everything that one server (or one memory:// URL) is to this process. A
 * client and its tools share one: the pool, the fallback engine, the breaker.
 *
 * Reference-counted under the GIL. */
#ifndef REDLANE_STORE_LINK_H
#define REDLANE_STORE_LINK_H

#include "core/fault.h"
#include "pubsub/hub.h"
#include "store/store.h"
#include "wire/settings.h"

/* What a tool wants while the server is away. */
typedef enum {
    REDLANE_POLICY_RAISE,  /* ConnectionError */
    REDLANE_POLICY_MEMORY, /* the memory engine answers */
    REDLANE_POLICY_NONE,   /* misses and no-ops */
} RedlanePolicy;

typedef struct RedlaneLink RedlaneLink;

/* STEALS settings. NULL with an exception set. */
RedlaneLink *redlane_link_new(RedlaneState *state, RedlaneSettings *settings);
RedlaneLink *redlane_link_hold(RedlaneLink *link);
void redlane_link_release(RedlaneLink *link);

/* A new reference to the executor for a policy (for memory:// the engine itself). NULL
 * with an exception set. Release it before the link. */
RedlaneStore *redlane_link_store(RedlaneLink *link, RedlanePolicy policy);

/* The near cache of the link, made on first need, with keys of this prefix watched.
 * BORROWED. NULL for memory://, a closed link, or where it cannot be had; no exception.
 */
RedlaneNear *redlane_link_near(RedlaneLink *link, RedlaneArg prefix);

/* The hub of the link's subscriptions, made on first need. BORROWED. NULL for a closed
 * link, or where it cannot be had; no exception. */
RedlaneHub *redlane_link_hub(RedlaneLink *link);

const RedlaneSettings *redlane_link_settings(const RedlaneLink *link);

/* Closes every connection; later calls raise ConnectionError("closed"). */
void redlane_link_close(RedlaneLink *link);
int redlane_link_closed(const RedlaneLink *link);

/* Asks the server for a PONG, past every policy, and tells the guard: 1 when it came, 0
 * when it did not (`fault` says why; no exception) or on memory://, -1 with an
 * exception set when a signal handler raised. */
int redlane_link_check(RedlaneLink *link, RedlaneFault *fault);

/* One command on the server itself, past every policy; the guard is told. NULL with an
 * exception set and `fault` filled. Not for memory://. */
PyObject *redlane_link_ask(RedlaneLink *link, const RedlaneArg *argv, size_t argc,
                           RedlaneFault *fault);

/* Inside store/: what the link shares with its fallback stores and its health. */
struct RedlaneMembers *redlane_link_members(RedlaneLink *link);
RedlaneState *redlane_link_state(const RedlaneLink *link);

/* health.c: a new dict of mode ("redis", "memory", "none", "away", "closed"), url,
 * connected, breaker, write_breaker, journal, error, server_version, used_memory,
 * used_memory_human, latency_ms, tls, pool, near and engine. Asks the server twice at
 * most, within its time-out; raises only MemoryError or what a signal handler raised.
 */
PyObject *redlane_link_health(RedlaneLink *link, RedlanePolicy policy);

/* The same of what is known already: the server is not asked, `connected` says whether
 * the breaker is closed, and what only the server can say is None. */
PyObject *redlane_link_report(RedlaneLink *link, RedlanePolicy policy);

/* From now on `observer` (observer.h), with `keys` in its texts, hears of each trip to
 * the server; NULL: nobody. Holds it until the link is closed. */
void redlane_link_observe(RedlaneLink *link, PyObject *observer, bool keys);

#endif
