/* A link: the members that all tools of one client share, and its health. GIL held. */
#include "store/link.h"

#include "core/clock.h"
#include "py/errors.h"
#include "py/log.h"
#include "py/state.h"
#include "store/background.h"
#include "store/engine_store.h"
#include "store/fallback.h"
#include "store/guard.h"
#include "store/near_values.h"
#include "store/remote.h"
#include "store/rest.h"

/* How often the server that sends the invalidations is asked whether it is there. */
#define REDLANE_NEAR_PING REDLANE_NS_PER_S
/* And the one that sends the messages of subscriptions, when it has none. */
#define REDLANE_HUB_PING (2500 * REDLANE_NS_PER_MS)

struct RedlaneLink {
    RedlaneState *state;           /* BORROWED; gone, perhaps, when the link is freed */
    RedlaneBackground *background; /* held */
    size_t references;             /* under the GIL */
    RedlaneMembers members;        /* memory://: only the engine and the settings */
};

RedlaneLink *
redlane_link_hold(RedlaneLink *link)
{
    link->references++;
    return link;
}

void
redlane_link_release(RedlaneLink *link)
{
    RedlaneMembers *members;

    if (!link || --link->references > 0) {
        return;
    }
    members = &link->members;
    if (members->guard) {
        redlane_background_forget(link->background, members->guard);
        redlane_guard_release(members->guard);
    }
    if (members->near) {
        redlane_near_shut(members->near);
        redlane_near_release(members->near);
    }
    if (members->hub) {
        redlane_hub_shut(members->settings);
        redlane_hub_release(members->hub);
    }
    redlane_store_release(members->remote);
    redlane_store_release(members->engine);
    redlane_store_release(members->scratch);
    Py_CLEAR(members->observer.call);
    redlane_settings_release(members->settings);
    redlane_background_release(link->background);
    PyMem_Free(link);
}

static int
make_members(RedlaneLink *link)
{
    RedlaneMembers *members = &link->members;

    if (members->settings->scheme == REDLANE_SCHEME_MEMORY) {
        members->engine =
            redlane_engine_store_new(link->state, members->settings->max_memory);
        if (!members->engine) {
            return -1;
        }
        redlane_engine_store_publish_for(members->engine, members->settings);
        return 0;
    }
    members->guard = redlane_guard_new(members->settings);
    if (!members->guard) {
        PyErr_NoMemory();
        return -1;
    }
    members->remote = redlane_remote_store_new(link->state, members->settings);
    return members->remote ? 0 : -1;
}

RedlaneLink *
redlane_link_new(RedlaneState *state, RedlaneSettings *settings)
{
    RedlaneLink *link = PyMem_Calloc(1, sizeof(*link));

    if (!link) {
        redlane_settings_release(settings);
        PyErr_NoMemory();
        return NULL;
    }
    link->state = state;
    link->background = redlane_background_hold(state->background);
    link->references = 1;
    link->members.settings = settings;
    if (make_members(link) < 0) {
        redlane_link_release(link);
        return NULL;
    }
    return link;
}

static int
is_memory(const RedlaneLink *link)
{
    return link->members.settings->scheme == REDLANE_SCHEME_MEMORY;
}

RedlaneStore *
redlane_link_store(RedlaneLink *link, RedlanePolicy policy)
{
    if (is_memory(link)) {
        return redlane_store_hold(link->members.engine);
    }
    return redlane_fallback_new(link->state, link, &link->members, policy);
}

const RedlaneSettings *
redlane_link_settings(const RedlaneLink *link)
{
    return link->members.settings;
}

/* Says what ends with the client. */
static void
warn_of_journal(RedlaneLink *link)
{
    RedlaneJournalStats stats;

    redlane_guard_journal(link->members.guard, &stats);
    if (stats.entries + stats.patterns > 0) {
        redlane_log_event(link->state, REDLANE_LOG_WARNING, "redlane.journal.unsent",
                          "closed before Redis has heard of %zu changes: %s",
                          stats.entries + stats.patterns,
                          link->members.settings->redacted);
    }
}

void
redlane_link_close(RedlaneLink *link)
{
    RedlaneMembers *members = &link->members;

    if (members->closed) {
        return;
    }
    members->closed = 1;
    Py_CLEAR(members->observer.call);
    if (members->guard) {
        redlane_background_forget(link->background, members->guard);
        warn_of_journal(link);
    }
    if (members->remote) {
        redlane_remote_store_close(members->remote);
    }
    if (members->settings->relay) {
        redlane_relay_close(members->settings->relay); /* it ends with its last */
    }
    if (members->near) {
        redlane_near_shut(members->near);
    }
    if (members->hub) {
        redlane_hub_shut(members->settings);
    }
}

void
redlane_link_observe(RedlaneLink *link, PyObject *observer, bool keys)
{
    RedlaneMembers *members = &link->members;

    if (!members->closed) {
        members->observer.keys = keys;
        Py_XSETREF(members->observer.call, Py_XNewRef(observer));
    }
}

RedlaneHub *
redlane_link_hub(RedlaneLink *link)
{
    RedlaneMembers *members = &link->members;

    if (!members->hub && !members->closed) {
        members->hub = redlane_hub_new(members->settings, REDLANE_HUB_PING);
    }
    if (!members->closed) {
        redlane_rest_prepare(members->settings);
    }
    return members->closed ? NULL : members->hub;
}

RedlaneNear *
redlane_link_near(RedlaneLink *link, RedlaneArg prefix)
{
    RedlaneMembers *members = &link->members;

    if (!members->guard || members->closed) {
        return NULL;
    }
    if (!members->near) {
        members->near = redlane_near_new(members->settings, REDLANE_NEAR_MAX_BYTES,
                                         REDLANE_NEAR_PING);
        if (!members->near) {
            return NULL;
        }
        atomic_store(&members->settings->wants_run_id, true);
        redlane_guard_set_near(members->guard, members->near);
    }
    return redlane_near_watch(members->near, prefix.data, prefix.size) ? members->near
                                                                       : NULL;
}

int
redlane_link_closed(const RedlaneLink *link)
{
    return link->members.closed;
}

PyObject *
redlane_link_ask(RedlaneLink *link, const RedlaneArg *argv, size_t argc,
                 RedlaneFault *fault)
{
    RedlaneMembers *members = &link->members;
    RedlaneVector vector = {argv, argc,
                            redlane_command_find(argv[0].data, argv[0].size)};
    RedlaneRequest request = {
        .deadline = redlane_clock_now() + members->settings->timeout, .decode = true};
    RedlaneRoute route = redlane_guard_route(members->guard);
    RedlaneRemoteReport report;
    PyObject *reply = NULL;
    int result;

    (void)redlane_link_hold(link); /* whoever called may lose it while this waits */
    redlane_rest_prepare(members->settings);
    result = redlane_remote_store_run(members->remote, &request, &vector, 1, &reply,
                                      &report);
    *fault = report.fault;
    if (result == 0) {
        if (!PyExceptionInstance_Check(reply)) {
            redlane_guard_success(members->guard, route.era);
            if (route.state != REDLANE_BREAKER_CLOSED && !members->closed) {
                /* Only a probe closes it: one who asks for nothing but health, in a
                 * forked child or where no thread could be started, sees to that. */
                (void)redlane_background_watch(link->background, members->guard, false);
            }
            goto exit;
        }
        PyErr_SetObject((PyObject *)Py_TYPE(reply), reply);
        Py_CLEAR(reply);
    }
    if (redlane_guard_is_outage(fault) && !report.progress) {
        redlane_guard_failure(members->guard, route.era, fault);
        if (!members->closed) {
            (void)redlane_background_watch(link->background, members->guard, true);
        }
    }
exit:
    redlane_link_release(link);
    return reply;
}

int
redlane_link_check(RedlaneLink *link, RedlaneFault *fault)
{
    static const RedlaneArg ping[] = {{"PING", 4}};
    PyObject *reply;

    if (is_memory(link)) {
        return 0;
    }
    (void)redlane_link_hold(link);
    reply = redlane_link_ask(link, ping, 1, fault);
    redlane_fallback_tell(link->state, &link->members);
    redlane_link_release(link);
    if (!reply) {
        if (fault->kind == REDLANE_FAULT_PYTHON) {
            return -1;
        }
        PyErr_Clear();
        return 0;
    }
    Py_DECREF(reply);
    return 1;
}

struct RedlaneMembers *
redlane_link_members(RedlaneLink *link)
{
    return &link->members;
}

RedlaneState *
redlane_link_state(const RedlaneLink *link)
{
    return link->state;
}
