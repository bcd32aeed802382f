/* One write: HELLO 2 [AUTH user password] [SETNAME name], SELECT db, and INFO server
 * where a near cache wants to know which server this is. A server (or a proxy) that
 * does not know HELLO gets AUTH, CLIENT SETNAME and SELECT instead. */
#include "wire/handshake.h"

#include <stdio.h>
#include <string.h>

#include "core/error_line.h"
#include "core/platform.h"
#include "wire/encode.h"

#define DEFAULT_USER "default"

typedef RedlaneArg Arg;

static Arg
arg_of(const char *text)
{
    return (Arg){text, strlen(text)};
}

static int
fail_memory(RedlaneFault *fault)
{
    redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
    return -1;
}

void
redlane_fault_set_reply(RedlaneFault *fault, const RedlanePlainReply *reply)
{
    size_t size = redlane_error_line_shown(reply->text, reply->size, NULL, 0);

    redlane_fault_set(fault, REDLANE_FAULT_REPLY, "%.*s", (int)size, reply->text);
}

RedlanePlainReply *
redlane_connection_answer_nogil(RedlaneConnection *connection, const RedlaneWait *wait,
                                RedlaneFault *fault)
{
    RedlaneReaderContext context = {0};
    void *reply = NULL;
    int got;

    redlane_reader_build_with(&connection->reader, &redlane_reply_plain_functions,
                              &context);
    while ((got = redlane_reader_next(&connection->reader, &reply, fault)) == 0) {
        if (redlane_connection_turn_nogil(connection, wait, fault) < 0) {
            got = -1;
            break;
        }
    }
    /* The context ends with this call; the callbacks are needed to free what is half
     * built. */
    redlane_reader_build_with(&connection->reader, &redlane_reply_plain_functions,
                              NULL);
    return got < 0 ? NULL : reply;
}

static int
add_hello(RedlaneConnection *connection, const RedlaneSettings *settings)
{
    Arg argv[8];
    size_t argc = 0;

    argv[argc++] = arg_of("HELLO");
    argv[argc++] = arg_of("2");
    if (settings->password) {
        argv[argc++] = arg_of("AUTH");
        argv[argc++] = arg_of(settings->username ? settings->username : DEFAULT_USER);
        argv[argc++] = (Arg){settings->password, settings->password_size};
    }
    if (settings->name) {
        argv[argc++] = arg_of("SETNAME");
        argv[argc++] = arg_of(settings->name);
    }
    return redlane_encode_command(&connection->out, argv, argc);
}

static int
add_auth(RedlaneConnection *connection, const RedlaneSettings *settings)
{
    Arg argv[3];
    size_t argc = 0;

    argv[argc++] = arg_of("AUTH");
    if (settings->username) {
        argv[argc++] = arg_of(settings->username);
    }
    argv[argc++] = (Arg){settings->password, settings->password_size};
    return redlane_encode_command(&connection->out, argv, argc);
}

static int
add_select(RedlaneConnection *connection, const RedlaneSettings *settings)
{
    char number[16];
    Arg argv[2] = {arg_of("SELECT")};

    (void)snprintf(number, sizeof(number), "%d", settings->db);
    argv[1] = arg_of(number);
    return redlane_encode_command(&connection->out, argv, 2);
}

static int
add_setname(RedlaneConnection *connection, const RedlaneSettings *settings)
{
    Arg argv[3] = {arg_of("CLIENT"), arg_of("SETNAME"), arg_of(settings->name)};

    return redlane_encode_command(&connection->out, argv, 3);
}

static int
add_info(RedlaneConnection *connection)
{
    const Arg argv[2] = {arg_of("INFO"), arg_of("server")};

    return redlane_encode_command(&connection->out, argv, 2);
}

/* Old servers and proxies say "unknown command", a rule may forbid it. */
static bool
hello_is_unknown(const RedlanePlainReply *reply)
{
    return redlane_reply_plain_begins(reply, "ERR unknown command") ||
           redlane_reply_plain_begins(reply, "ERR unsupported command") ||
           redlane_reply_plain_begins(reply, "NOPROTO") ||
           (redlane_reply_plain_begins(reply, "NOPERM") &&
            strstr(reply->text, "hello") != NULL);
}

/* The facts in HELLO's answer: a flat array of names and values. */
static void
note_facts(RedlaneConnection *connection, const RedlanePlainReply *reply)
{
    for (size_t i = 0; i + 1 < reply->count; i += 2) {
        const RedlanePlainReply *name = reply->elements[i];
        const RedlanePlainReply *value = reply->elements[i + 1];

        if (name->kind != REDLANE_REPLY_BULK) {
            continue;
        }
        if (strcmp(name->text, "version") == 0 && value->kind == REDLANE_REPLY_BULK) {
            (void)snprintf(connection->server_version,
                           sizeof(connection->server_version), "%s", value->text);
        }
        else if (strcmp(name->text, "id") == 0 &&
                 value->kind == REDLANE_REPLY_INTEGER) {
            connection->server_id = value->number;
        }
    }
}

/* One answer that must not be an error. */
static int
expect_ok(RedlaneConnection *connection, const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlanePlainReply *reply = redlane_connection_answer_nogil(connection, wait, fault);
    int result = 0;

    if (!reply) {
        return -1;
    }
    if (reply->kind == REDLANE_REPLY_ERROR) {
        redlane_fault_set_reply(fault, reply);
        result = -1;
    }
    else if (reply->kind != REDLANE_REPLY_STATUS) {
        redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL,
                          "an unexpected answer to the handshake");
        result = -1;
    }
    redlane_reply_plain_free(reply);
    return result;
}

static int
expect_nothing_more(const RedlaneConnection *connection, RedlaneFault *fault)
{
    if (redlane_reader_unread(&connection->reader) > 0) {
        redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL,
                          "the server sent what nobody asked for");
        return -1;
    }
    return 0;
}

/* What was sent is answered: the password in it is not kept. */
static void
drop_sent(RedlaneConnection *connection)
{
    if (connection->out.data) {
        redlane_platform_wipe(connection->out.data, connection->out.size);
    }
    connection->out.size = 0;
    connection->sent = 0;
}

static int
shake_old_way(RedlaneConnection *connection, const RedlaneSettings *settings,
              const RedlaneWait *wait, RedlaneFault *fault)
{
    int steps = 0;

    drop_sent(connection);
    if ((settings->password && (steps++, add_auth(connection, settings) < 0)) ||
        (settings->name && (steps++, add_setname(connection, settings) < 0)) ||
        (settings->db != 0 && (steps++, add_select(connection, settings) < 0))) {
        return fail_memory(fault);
    }
    while (steps--) {
        if (expect_ok(connection, wait, fault) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Keeps the run_id of INFO's answer; a server that will not say it has none. */
static int
read_info(RedlaneConnection *connection, const RedlaneWait *wait, RedlaneFault *fault)
{
    static const char name[] = "\nrun_id:";
    RedlanePlainReply *reply = redlane_connection_answer_nogil(connection, wait, fault);
    const char *found;

    if (!reply) {
        return -1;
    }
    found = reply->kind == REDLANE_REPLY_BULK ? strstr(reply->text, name) : NULL;
    if (found) {
        found += sizeof(name) - 1;
        (void)snprintf(connection->run_id, sizeof(connection->run_id), "%.*s",
                       (int)strcspn(found, "\r\n"), found);
    }
    redlane_reply_plain_free(reply);
    return 0;
}

/* Reads the answer to what was sent too early, before AUTH. */
static int
skip_answer(RedlaneConnection *connection, const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlanePlainReply *reply = redlane_connection_answer_nogil(connection, wait, fault);

    if (!reply) {
        return -1;
    }
    redlane_reply_plain_free(reply);
    return 0;
}

/* Reads the answer to HELLO: 1 when it is not known, 0, or -1 with a fault. */
static int
read_hello(RedlaneConnection *connection, const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlanePlainReply *reply = redlane_connection_answer_nogil(connection, wait, fault);
    int result = 0;

    if (!reply) {
        return -1;
    }
    if (reply->kind == REDLANE_REPLY_ARRAY) {
        note_facts(connection, reply);
    }
    else if (reply->kind == REDLANE_REPLY_ERROR && hello_is_unknown(reply)) {
        result = 1;
    }
    else if (reply->kind == REDLANE_REPLY_ERROR) {
        redlane_fault_set_reply(fault, reply);
        result = -1;
    }
    else {
        redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL,
                          "an unexpected answer to HELLO");
        result = -1;
    }
    redlane_reply_plain_free(reply);
    return result;
}

static int
shake(RedlaneConnection *connection, const RedlaneSettings *settings,
      const RedlaneWait *wait, RedlaneFault *fault)
{
    bool asks = connection->asked_run_id;
    int old;

    if (add_hello(connection, settings) < 0 ||
        (settings->db != 0 && add_select(connection, settings) < 0) ||
        (asks && add_info(connection) < 0)) {
        return fail_memory(fault);
    }
    old = read_hello(connection, wait, fault);
    if (old < 0) {
        return -1;
    }
    if (!old) {
        if (settings->db != 0 && expect_ok(connection, wait, fault) < 0) {
            return -1;
        }
        return asks ? read_info(connection, wait, fault) : 0;
    }
    /* SELECT and INFO came before AUTH, perhaps: asked again below. */
    if ((settings->db != 0 && skip_answer(connection, wait, fault) < 0) ||
        (asks && skip_answer(connection, wait, fault) < 0) ||
        shake_old_way(connection, settings, wait, fault) < 0) {
        return -1;
    }
    if (!asks) {
        return 0;
    }
    return add_info(connection) < 0 ? fail_memory(fault)
                                    : read_info(connection, wait, fault);
}

/* A server that speaks TLS answers a plain HELLO with an alert (0x15), which is no
 * reply, or with the end. */
static void
suspect_tls(const RedlaneConnection *connection, RedlaneFault *fault)
{
    static const char hint[] = "; does it speak TLS on this port (rediss://)?";
    const RedlaneFault said = *fault;

    if (fault->kind == REDLANE_FAULT_PROTOCOL
            ? strstr(said.text, "\"\\x15\"") != NULL
            : fault->kind == REDLANE_FAULT_LOST && connection->reader.received == 0) {
        redlane_fault_set(fault, said.kind, "%.180s%s", said.text, hint);
    }
}

int
redlane_handshake_nogil(RedlaneConnection *connection, const RedlaneSettings *settings,
                        const RedlaneWait *wait, RedlaneFault *fault)
{
    int result;

    connection->server_version[0] = connection->run_id[0] = '\0';
    connection->server_id = 0;
    connection->asked_run_id =
        atomic_load_explicit(&settings->wants_run_id, memory_order_relaxed);
    result = shake(connection, settings, wait, fault);
    if (result < 0 && settings->scheme == REDLANE_SCHEME_TCP && !settings->tls) {
        suspect_tls(connection, fault);
    }
    if (result < 0 && fault->kind == REDLANE_FAULT_REPLY) {
        fault->text[redlane_error_line_shown(fault->text, strlen(fault->text),
                                             settings->password,
                                             settings->password_size)] = '\0';
    }
    if (result == 0) {
        result = expect_nothing_more(connection, fault);
    }
    drop_sent(connection);
    return result;
}

int
redlane_connection_ping_nogil(RedlaneConnection *connection, const RedlaneWait *wait,
                              RedlaneFault *fault)
{
    const Arg ping = arg_of("PING");
    int result;

    connection->out.size = 0;
    connection->sent = 0;
    result = redlane_encode_command(&connection->out, &ping, 1) < 0
                 ? fail_memory(fault)
                 : expect_ok(connection, wait, fault);
    connection->out.size = 0;
    connection->sent = 0;
    if (result == 0) {
        result = expect_nothing_more(connection, fault);
    }
    if (result < 0) {
        redlane_connection_close(connection, true);
    }
    return result;
}
