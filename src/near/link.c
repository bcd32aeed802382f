#include "near/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/vector.h"
#include "wire/encode.h"
#include "wire/handshake.h"

/* A message of more is no help: closing the link flushes everything at once. */
#define MESSAGE_MOST (64 * 1024 * 1024)
/* Receives in a row before the PING and the thread's end get their look. */
#define RECEIVES_MOST 256
/* "run_id:" and 40 digits. */
#define RUN_ID "run_id:"

static const char another_server[] =
    "the data connections reach another server than the invalidations come from";

static RedlaneArg
arg_of(const char *text)
{
    return (RedlaneArg){text, strlen(text)};
}

static int
fail_memory(RedlaneFault *fault)
{
    redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
    return -1;
}

/* RedlanePush.invalidate */
static void
take_invalidation(void *owner, const char *key, size_t size)
{
    RedlaneNearCache *cache = owner;

    if (!key) {
        redlane_near_values_flush(cache, true);
        return;
    }
    (void)atomic_fetch_add_explicit(&cache->invalidations, 1, memory_order_relaxed);
    redlane_near_kill(&cache->head, key, size);
}

static int
add_command(RedlaneConnection *connection, const RedlaneArg *argv, size_t argc)
{
    if (connection->sent == connection->out.size) {
        connection->sent = connection->out.size = 0;
    }
    return redlane_encode_command(&connection->out, argv, argc);
}

/* --- opening --------------------------------------------------------------- */

/* An error line, with what it refuses before it; but as it is where the server just
 * says "not now" (LOADING …), for its first word tells. */
static int
fail_refused(const char *what, const char *line, RedlaneFault *fault)
{
    RedlaneFault said = {.kind = REDLANE_FAULT_REPLY};

    (void)snprintf(said.text, sizeof(said.text), "%s", line);
    if (redlane_fault_is_crowded(&said) ||
        redlane_fault_of_reply(said.text, strlen(said.text)) != REDLANE_FAULT_NONE) {
        *fault = said;
        return -1;
    }
    redlane_fault_set(fault, REDLANE_FAULT_REPLY, "%s: %s", what, said.text);
    return -1;
}

/* The answer to one command in RESP2; NULL with a fault, also where it is an error. */
static RedlanePlainReply *
ask(RedlaneNearLink *link, const char *name, const char *argument,
    const RedlaneWait *wait, RedlaneFault *fault)
{
    const RedlaneArg argv[2] = {arg_of(name), arg_of(argument)};
    RedlanePlainReply *reply;
    char what[32]; /* the command */

    if (add_command(link->connection, argv, 2) < 0) {
        (void)fail_memory(fault);
        return NULL;
    }
    reply = redlane_connection_answer_nogil(link->connection, wait, fault);
    if (reply && reply->kind == REDLANE_REPLY_ERROR) {
        (void)snprintf(what, sizeof(what), "%s %s", name, argument);
        redlane_fault_set_reply(fault, reply);
        (void)fail_refused(what, fault->text, fault);
        redlane_reply_plain_free(reply);
        reply = NULL;
    }
    return reply;
}

static int
learn_run_id(RedlaneNearLink *link, const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlanePlainReply *reply = ask(link, "INFO", "server", wait, fault);
    const char *found;
    size_t size = 0;

    if (!reply) {
        return -1;
    }
    found = reply->kind == REDLANE_REPLY_BULK ? strstr(reply->text, RUN_ID) : NULL;
    if (found) {
        found += sizeof(RUN_ID) - 1;
        size = strcspn(found, "\r\n");
        if (size >= sizeof(link->run_id)) {
            size = 0;
        }
        memcpy(link->run_id, found, size);
    }
    link->run_id[size] = '\0';
    redlane_reply_plain_free(reply);
    return size ? 0 : fail_refused("INFO server", "it tells no run_id", fault);
}

/* The next reply that is no invalidation: its kind, or -1 with a fault. */
static int
await_reply(RedlaneNearLink *link, const RedlaneWait *wait, RedlaneFault *fault)
{
    void *reply;
    int got;

    do {
        while ((got = redlane_reader_next(&link->connection->reader, &reply, fault)) ==
               0) {
            if (redlane_connection_turn_nogil(link->connection, wait, fault) < 0) {
                return -1;
            }
        }
    } while (got > 0 && link->push.kind == REDLANE_PUSH_INVALIDATION);
    return got < 0 ? -1 : (int)link->push.kind;
}

/* The same for an answer that must be of this kind. */
static int
await_kind(RedlaneNearLink *link, RedlanePushKind wanted, const char *what,
           const RedlaneWait *wait, RedlaneFault *fault)
{
    int kind = await_reply(link, wait, fault);

    if (kind == (int)wanted) {
        return 0;
    }
    if (kind == REDLANE_PUSH_ERROR) {
        return fail_refused(what, link->push.fault.text, fault);
    }
    if (kind >= 0) {
        redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL, "%s: an unexpected answer",
                          what);
    }
    return -1;
}

/* 1 when the server speaks RESP3 from here on, 0 when it does not, or -1. */
static int
try_resp3(RedlaneNearLink *link, const RedlaneWait *wait, RedlaneFault *fault)
{
    const RedlaneArg hello[] = {arg_of("HELLO"), arg_of("3")};
    int kind;

    redlane_push_read_with(&link->connection->reader, &link->push);
    if (add_command(link->connection, hello, 2) < 0) {
        return fail_memory(fault);
    }
    link->push.awaits_hello = true;
    kind = await_reply(link, wait, fault);
    link->push.awaits_hello = false;
    if (kind == REDLANE_PUSH_HELLO || kind == REDLANE_PUSH_ERROR) {
        return kind == REDLANE_PUSH_HELLO;
    }
    if (kind >= 0) {
        redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL,
                          "an unexpected answer to HELLO");
    }
    return -1;
}

/* The number that a connection of RESP2 redirects to: its own. */
static int
learn_client_id(RedlaneNearLink *link, const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlanePlainReply *reply;

    if (link->connection->server_id == 0) {
        reply = ask(link, "CLIENT", "ID", wait, fault);
        if (!reply) {
            return -1;
        }
        link->connection->server_id = reply->number;
        redlane_reply_plain_free(reply);
        redlane_push_read_with(&link->connection->reader, &link->push);
    }
    return 0;
}

/* CLIENT TRACKING ON [REDIRECT id] BCAST [PREFIX p …]. No prefix is all keys. */
static int
add_tracking(RedlaneNearLink *link)
{
    const RedlaneNearPrefixes *set = link->prefixes;
    RedlaneArg *argv = malloc((6 + 2 * set->count) * sizeof(*argv));
    char number[24];
    size_t argc = 0;
    int result;

    if (!argv) {
        return -1;
    }
    argv[argc++] = arg_of("CLIENT");
    argv[argc++] = arg_of("TRACKING");
    argv[argc++] = arg_of("ON");
    if (!link->resp3) {
        (void)snprintf(number, sizeof(number), "%lld",
                       (long long)link->connection->server_id);
        argv[argc++] = arg_of("REDIRECT");
        argv[argc++] = arg_of(number);
    }
    argv[argc++] = arg_of("BCAST");
    for (size_t i = 0; i < set->count && set->items[i].size; i++) {
        argv[argc++] = arg_of("PREFIX");
        argv[argc++] = set->items[i];
    }
    result = add_command(link->connection, argv, argc);
    free(argv);
    return result;
}

static int
track(RedlaneNearLink *link, const RedlaneWait *wait, RedlaneFault *fault)
{
    const RedlaneArg subscribe[] = {arg_of("SUBSCRIBE"), arg_of(REDLANE_PUSH_CHANNEL)};

    if (add_tracking(link) < 0 ||
        (!link->resp3 && add_command(link->connection, subscribe, 2) < 0)) {
        return fail_memory(fault);
    }
    link->proved_at = link->pinged_at = redlane_clock_now();
    if (await_kind(link, REDLANE_PUSH_STATUS, "CLIENT TRACKING", wait, fault) < 0) {
        return -1;
    }
    return link->resp3
               ? 0
               : await_kind(link, REDLANE_PUSH_SUBSCRIBED, "SUBSCRIBE", wait, fault);
}

static int
open_link(RedlaneNearLink *link, const RedlaneWait *wait, RedlaneFault *fault)
{
    int resp3;

    if (redlane_connection_open_nogil(link->connection, link->cache->settings, wait,
                                      fault) < 0) {
        return -1;
    }
    redlane_reader_limit(&link->connection->reader, MESSAGE_MOST);
    if (learn_run_id(link, wait, fault) < 0) {
        return -1;
    }
    resp3 = try_resp3(link, wait, fault);
    if (resp3 < 0) {
        return -1;
    }
    link->resp3 = resp3 > 0;
    if (!resp3 && learn_client_id(link, wait, fault) < 0) {
        return -1;
    }
    return track(link, wait, fault);
}

RedlaneNearLink *
redlane_near_link_open_nogil(RedlaneNearCache *cache, RedlaneNearPrefixes *prefixes,
                             const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlaneNearLink *link = calloc(1, sizeof(*link));

    if (!link) {
        (void)fail_memory(fault);
        return NULL;
    }
    link->cache = cache;
    link->push.invalidate = take_invalidation;
    link->push.owner = cache;
    link->prefixes = redlane_near_prefixes_hold(prefixes);
    link->connection = redlane_connection_new();
    if (!link->connection) {
        (void)fail_memory(fault);
    }
    if (!link->connection || open_link(link, wait, fault) < 0) {
        redlane_near_link_close(link);
        return NULL;
    }
    return link;
}

void
redlane_near_link_close(RedlaneNearLink *link)
{
    if (link) {
        redlane_connection_free(link->connection);
        redlane_near_prefixes_release(link->prefixes);
        free(link);
    }
}

/* --- listening ------------------------------------------------------------- */

static void
take_pong(RedlaneNearLink *link)
{
    link->pinged = false;
    link->proved_at = link->pinged_at;
    redlane_near_extend(link->cache, redlane_near_link_valid_until(link));
    if (link->met_strangers) {
        redlane_near_tell(link->cache, another_server);
        redlane_near_values_flush(link->cache, false);
    }
    redlane_near_values_sweep(link->cache);
}

/* What has been received. 0, or -1 with a fault. */
static int
read_replies(RedlaneNearLink *link, RedlaneFault *fault)
{
    void *reply;
    int got;

    while ((got = redlane_reader_next(&link->connection->reader, &reply, fault)) > 0) {
        if (link->push.kind == REDLANE_PUSH_PONG && link->pinged) {
            take_pong(link);
        }
        else if (link->push.kind == REDLANE_PUSH_ERROR && link->pinged) {
            return fail_refused("PING", link->push.fault.text, fault);
        }
        else if (link->push.kind != REDLANE_PUSH_INVALIDATION) {
            redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL,
                              "the server sent what nobody asked for");
            return -1;
        }
    }
    return got;
}

/* A thread that did not get to run for long has not given the server its time. */
static int64_t
silence_ends(const RedlaneNearLink *link)
{
    int64_t interval = link->cache->ping_interval;
    int64_t proved = link->proved_at + 2 * interval, asked = link->pinged_at + interval;

    return proved > asked ? proved : asked;
}

static int
add_ping(RedlaneNearLink *link, RedlaneFault *fault)
{
    const RedlaneArg ping = arg_of("PING");

    if (add_command(link->connection, &ping, 1) < 0) {
        return fail_memory(fault);
    }
    link->pinged = true;
    link->pinged_at = redlane_clock_now();
    link->met_strangers = redlane_near_meets_strangers(link->cache);
    return 0;
}

static int
look_after_ping(RedlaneNearLink *link, RedlaneFault *fault)
{
    if (redlane_clock_now() < redlane_near_link_due(link)) {
        return 0;
    }
    if (link->pinged) {
        redlane_fault_set(fault, REDLANE_FAULT_TIMEOUT, "the server does not answer");
        return -1;
    }
    return add_ping(link, fault);
}

int64_t
redlane_near_link_due(const RedlaneNearLink *link)
{
    return link->pinged ? silence_ends(link)
                        : link->pinged_at + link->cache->ping_interval;
}

int64_t
redlane_near_link_valid_until(const RedlaneNearLink *link)
{
    return link->proved_at + 2 * link->cache->ping_interval - REDLANE_COARSE_TICK;
}

int
redlane_near_link_serve_nogil(RedlaneNearLink *link, RedlaneFault *fault)
{
    RedlaneConnection *connection = link->connection;
    int got = 1;

    for (int i = 0; i < RECEIVES_MOST && got > 0; i++) {
        got = redlane_connection_receive_nogil(connection, fault);
        if (got < 0 || (got > 0 && read_replies(link, fault) < 0)) {
            return -1;
        }
    }
    if (look_after_ping(link, fault) < 0) {
        return -1;
    }
    while (connection->sent < connection->out.size) {
        int sent = redlane_connection_send_nogil(connection, fault);

        if (sent <= 0) {
            return sent < 0 ? -1 : got;
        }
    }
    return got;
}

int
redlane_near_link_drain_nogil(RedlaneNearLink *link, const RedlaneWait *wait,
                              RedlaneFault *fault)
{
    const RedlaneTransport *transport = &link->connection->transport;
    bool asked = false; /* since this call began */

    while (link->pinged || !asked) {
        int more;

        if (!link->pinged) {
            asked = true;
            if (add_ping(link, fault) < 0) {
                return -1;
            }
        }
        more = redlane_near_link_serve_nogil(link, fault);
        if (more < 0 || (!more && link->pinged &&
                         redlane_wait_fd_nogil(wait, transport->fd,
                                               transport->wants_read, fault) < 0)) {
            return -1;
        }
    }
    return 0;
}
