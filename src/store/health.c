/* The health report of a link. GIL held; the server is asked through the link, so a
 * report also tells the guard what it found. */
#include <string.h>

#include "core/clock.h"
#include "py/state.h"
#include "store/engine_store.h"
#include "store/fallback.h"
#include "store/guard.h"
#include "store/link.h"
#include "store/remote.h"

/* report[key] = value; STEALS value, which may be NULL after a failure. RAISES_NEG */
static int
put(PyObject *report, const char *key, PyObject *value)
{
    int result;

    if (!value) {
        return -1;
    }
    result = PyDict_SetItemString(report, key, value);
    Py_DECREF(value);
    return result;
}

static PyObject *
new_none(void)
{
    return Py_NewRef(Py_None);
}

/* The value of `name:` in INFO's text as a str; None where it does not stand. */
static PyObject *
find_info(const char *info, const char *name)
{
    size_t length = strlen(name);
    const char *line = info;

    while (line) {
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            const char *value = line + length + 1;

            return PyUnicode_DecodeUTF8(value, (Py_ssize_t)strcspn(value, "\r\n"),
                                        "replace");
        }
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    return new_none();
}

/* Valkey names the version of Redis that it is compatible with beside its own. */
static PyObject *
find_version(const char *info)
{
    PyObject *version = find_info(info, "valkey_version");

    if (version != Py_None) {
        return version;
    }
    Py_DECREF(version);
    return find_info(info, "redis_version");
}

static PyObject *
find_info_number(const char *info, const char *name)
{
    PyObject *text = find_info(info, name), *number;

    if (!text || text == Py_None) {
        return text;
    }
    number = PyLong_FromUnicodeObject(text, 10);
    Py_DECREF(text);
    if (!number && PyErr_ExceptionMatches(PyExc_ValueError)) {
        PyErr_Clear();
        return new_none();
    }
    return number;
}

/* What only the server can say. A link that is away is reported, not raised. */
static int
put_server(PyObject *report, RedlaneLink *link)
{
    static const RedlaneArg ping[] = {{"PING", 4}}, info[] = {{"INFO", 4}};
    RedlaneFault fault = {0};
    int64_t start = redlane_clock_now(), end;
    PyObject *pong, *text = NULL;
    const char *utf8 = "";
    int result = -1;

    pong = redlane_link_ask(link, ping, 1, &fault);
    end = redlane_clock_now();
    if (pong) {
        text = redlane_link_ask(link, info, 1, &fault);
    }
    if (fault.kind == REDLANE_FAULT_PYTHON || fault.kind == REDLANE_FAULT_MEMORY) {
        goto exit;
    }
    PyErr_Clear(); /* INFO may be forbidden by an ACL: the rest is still true */
    if (text && PyUnicode_Check(text)) {
        utf8 = PyUnicode_AsUTF8(text);
        if (!utf8) {
            goto exit;
        }
    }
    if (put(report, "connected", PyBool_FromLong(pong != NULL)) < 0 ||
        put(report, "latency_ms",
            pong ? PyFloat_FromDouble((double)(end - start) / 1e6) : new_none()) < 0 ||
        put(report, "server_version", find_version(utf8)) < 0 ||
        put(report, "used_memory", find_info_number(utf8, "used_memory")) < 0 ||
        put(report, "used_memory_human", find_info(utf8, "used_memory_human")) < 0) {
        goto exit;
    }
    result = 0;
exit:
    Py_XDECREF(pong);
    Py_XDECREF(text);
    return result;
}

static int
put_no_server(PyObject *report)
{
    return put(report, "connected", PyBool_FromLong(0)) < 0 ||
                   put(report, "latency_ms", new_none()) < 0 ||
                   put(report, "server_version", new_none()) < 0 ||
                   put(report, "used_memory", new_none()) < 0 ||
                   put(report, "used_memory_human", new_none()) < 0
               ? -1
               : 0;
}

static int
put_engine(PyObject *report, RedlaneStore *engine)
{
    RedlaneEngineStats stats = {0};

    if (!engine) {
        return put(report, "engine", new_none());
    }
    redlane_engine_stats(redlane_engine_store_engine(engine), &stats);
    return put(report, "engine",
               Py_BuildValue("{s:n,s:n,s:n,s:n,s:n}", "keys", (Py_ssize_t)stats.keys,
                             "bytes", (Py_ssize_t)stats.bytes, "max_bytes",
                             (Py_ssize_t)stats.max_bytes, "evictions",
                             (Py_ssize_t)stats.evictions, "expired",
                             (Py_ssize_t)stats.expired));
}

static int
put_pool(PyObject *report, RedlaneStore *remote)
{
    RedlaneRemoteStats stats = {0};

    if (!remote) {
        return put(report, "pool", new_none());
    }
    redlane_remote_store_stats(remote, &stats);
    return put(report, "pool",
               Py_BuildValue("{s:n,s:n,s:n,s:n}", "idle", (Py_ssize_t)stats.idle,
                             "busy", (Py_ssize_t)stats.busy, "size",
                             (Py_ssize_t)stats.size, "loops", (Py_ssize_t)stats.loops));
}

static int
put_journal(PyObject *report, RedlaneGuard *guard)
{
    RedlaneJournalStats stats;

    if (!guard) {
        return put(report, "journal", new_none());
    }
    redlane_guard_journal(guard, &stats);
    return put(report, "journal",
               Py_BuildValue("{s:n,s:n,s:n,s:K}", "keys", (Py_ssize_t)stats.entries,
                             "patterns", (Py_ssize_t)stats.patterns, "bytes",
                             (Py_ssize_t)stats.bytes, "lost",
                             (unsigned long long)stats.lost));
}

static const char *
name_of_near_state(RedlaneNearState state)
{
    switch (state) {
    case REDLANE_NEAR_IDLE:
        return "idle";
    case REDLANE_NEAR_CONNECTING:
        return "connecting";
    case REDLANE_NEAR_CONFIRMED:
        return "on";
    case REDLANE_NEAR_REFUSED:
        return "refused";
    case REDLANE_NEAR_CLOSED:
        break;
    }
    return "closed";
}

/* None where no cache has asked for one. */
static int
put_near(PyObject *report, RedlaneNear *near)
{
    const char *protocol = NULL; /* there was no link yet */
    RedlaneNearStats stats;

    if (!near) {
        return put(report, "near", new_none());
    }
    redlane_near_stats(near, &stats);
    if (stats.links > 0) {
        protocol = stats.resp3 ? "RESP3" : "RESP2";
    }
    return put(
        report, "near",
        Py_BuildValue(
            "{s:s,s:N,s:z,s:n,s:n,s:n,s:n,s:K,s:K,s:K,s:K,s:K,s:K,s:K}", "state",
            name_of_near_state(stats.state), "reason",
            stats.reason[0]
                ? PyUnicode_DecodeUTF8(stats.reason, (Py_ssize_t)strlen(stats.reason),
                                       "replace")
                : new_none(),
            "protocol", protocol, "prefixes", (Py_ssize_t)stats.prefixes, "entries",
            (Py_ssize_t)stats.entries, "bytes", (Py_ssize_t)stats.bytes, "max_bytes",
            (Py_ssize_t)stats.max_bytes, "hits", (unsigned long long)stats.hits,
            "misses", (unsigned long long)stats.misses, "stores",
            (unsigned long long)stats.stores, "evictions",
            (unsigned long long)stats.evictions, "invalidations",
            (unsigned long long)stats.invalidations, "flushes",
            (unsigned long long)stats.flushes, "links",
            (unsigned long long)stats.links));
}

/* None while nothing was subscribed to. */
static int
put_pubsub(PyObject *report, const RedlaneMembers *members)
{
    RedlaneHubStats stats;

    if (!members->hub) {
        return put(report, "pubsub", new_none());
    }
    redlane_hub_stats(members->settings, &stats);
    return put(
        report, "pubsub",
        Py_BuildValue("{s:O,s:n,s:n,s:n,s:n,s:n,s:K,s:K}", "connected",
                      stats.connected ? Py_True : Py_False, "subscriptions",
                      (Py_ssize_t)stats.feeds, "channels", (Py_ssize_t)stats.channels,
                      "patterns", (Py_ssize_t)stats.patterns, "queued",
                      (Py_ssize_t)stats.count, "queued_bytes", (Py_ssize_t)stats.bytes,
                      "dropped", (unsigned long long)stats.dropped, "gaps",
                      (unsigned long long)stats.gaps));
}

/* What the relay says: the version, a space, the cipher. */
static PyObject *
new_tls_of_relay(RedlaneRelay *relay)
{
    char text[REDLANE_RELAY_TLS_SIZE];
    char *cipher;

    redlane_relay_read_tls(relay, text);
    cipher = strchr(text, ' ');
    if (cipher) {
        *cipher++ = 0;
    }
    return Py_BuildValue("{s:z,s:z}", "version", cipher ? text : NULL, "cipher",
                         cipher);
}

/* None without TLS; else what the newest handshake agreed on, None before the first. */
static int
put_tls(PyObject *report, const RedlaneSettings *settings)
{
    const RedlaneTls *tls = settings->tls;

    if (settings->relay && strncmp(settings->redacted, "https:", 6) == 0) {
        return put(report, "tls", new_tls_of_relay(settings->relay));
    }
    if (!tls) {
        return put(report, "tls", new_none());
    }
    return put(report, "tls",
               Py_BuildValue("{s:z,s:z}", "version", redlane_tls_version(tls), "cipher",
                             redlane_tls_cipher(tls)));
}

static const char *
name_of_mode(const RedlaneMembers *members, RedlaneBreakerState state,
             RedlanePolicy policy)
{
    if (members->closed) {
        return "closed";
    }
    if (!members->guard) {
        return "memory";
    }
    if (state == REDLANE_BREAKER_CLOSED) {
        return "redis";
    }
    switch (policy) {
    case REDLANE_POLICY_MEMORY:
        return "memory";
    case REDLANE_POLICY_NONE:
        return "none";
    case REDLANE_POLICY_RAISE:
        break;
    }
    return "away";
}

static PyObject *
make_report(RedlaneLink *link, RedlanePolicy policy, bool ask)
{
    RedlaneMembers *members = redlane_link_members(link);
    RedlaneRoute route = {.state = REDLANE_BREAKER_CLOSED};
    RedlaneFault last = {0};
    PyObject *report = PyDict_New();

    if (!report) {
        return NULL;
    }
    (void)redlane_link_hold(link); /* a tool may let go of it meanwhile */
    if ((ask && members->guard && !members->closed ? put_server(report, link)
                                                   : put_no_server(report)) < 0) {
        goto error;
    }
    if (members->guard) {
        route = redlane_guard_route(members->guard);
        redlane_guard_reason(members->guard, &last);
    }
    if (!ask && members->guard && !members->closed &&
        put(report, "connected",
            PyBool_FromLong(route.state == REDLANE_BREAKER_CLOSED)) < 0) {
        goto error;
    }
    if (put(report, "mode",
            PyUnicode_FromString(name_of_mode(members, route.state, policy))) < 0 ||
        put(report, "breaker",
            PyUnicode_FromString(redlane_breaker_state_name(route.state))) < 0 ||
        put(report, "write_breaker",
            PyUnicode_FromString(route.refused ? "open" : "closed")) < 0 ||
        put_journal(report, members->guard) < 0 ||
        put(report, "error",
            route.state == REDLANE_BREAKER_CLOSED && !route.refused
                ? new_none()
                : PyUnicode_DecodeUTF8(last.text, (Py_ssize_t)strlen(last.text),
                                       "replace")) < 0 ||
        put(report, "url", PyUnicode_FromString(members->settings->redacted)) < 0 ||
        put_tls(report, members->settings) < 0 ||
        put_pool(report, members->remote) < 0 || put_near(report, members->near) < 0 ||
        put_pubsub(report, members) < 0 || put_engine(report, members->engine) < 0) {
        goto error;
    }
    if (members->guard) {
        redlane_fallback_tell(redlane_link_state(link), members);
    }
    goto exit;
error:
    Py_CLEAR(report);
exit:
    redlane_link_release(link);
    return report;
}

PyObject *
redlane_link_health(RedlaneLink *link, RedlanePolicy policy)
{
    return make_report(link, policy, true);
}

PyObject *
redlane_link_report(RedlaneLink *link, RedlanePolicy policy)
{
    return make_report(link, policy, false);
}
