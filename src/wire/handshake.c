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

    if (redlane_fault_of_relay(reply->text, size, fault)) {
        return;
    }
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
expect_ok(const RedlanePlainReply *reply, RedlaneFault *fault)
{
    if (reply->kind == REDLANE_REPLY_ERROR) {
        redlane_fault_set_reply(fault, reply);
        return -1;
    }
    if (reply->kind != REDLANE_REPLY_STATUS) {
        redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL,
                          "an unexpected answer to the handshake");
        return -1;
    }
    return 0;
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

/* Keeps the run_id of INFO's answer; a server that will not say it has none. */
static void
read_info(RedlaneConnection *connection, const RedlanePlainReply *reply)
{
    static const char name[] = "\nrun_id:";
    const char *found =
        reply->kind == REDLANE_REPLY_BULK ? strstr(reply->text, name) : NULL;

    if (found) {
        found += sizeof(name) - 1;
        (void)snprintf(connection->run_id, sizeof(connection->run_id), "%.*s",
                       (int)strcspn(found, "\r\n"), found);
    }
}

/* Reads the answer to HELLO: 1 when it is not known, 0, or -1 with a fault. */
static int
read_hello(RedlaneConnection *connection, const RedlanePlainReply *reply,
           RedlaneFault *fault)
{
    if (reply->kind == REDLANE_REPLY_ARRAY) {
        note_facts(connection, reply);
        return 0;
    }
    if (reply->kind != REDLANE_REPLY_ERROR) {
        redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL,
                          "an unexpected answer to HELLO");
        return -1;
    }
    if (hello_is_unknown(reply)) {
        return 1;
    }
    redlane_fault_set_reply(fault, reply);
    return -1;
}

static void
expect(RedlaneHandshake *handshake, RedlaneAwaited kind)
{
    handshake->awaited[handshake->count++] = kind;
}

/* Without HELLO, and once more what came before AUTH, perhaps. */
static int
begin_old_way(RedlaneConnection *connection, RedlaneHandshake *handshake,
              RedlaneFault *fault)
{
    const RedlaneSettings *settings = handshake->settings;

    drop_sent(connection);
    handshake->old = true;
    handshake->next = handshake->count = 0;
    if ((settings->password && add_auth(connection, settings) < 0) ||
        (settings->name && add_setname(connection, settings) < 0) ||
        (settings->db != 0 && add_select(connection, settings) < 0) ||
        (connection->asked_run_id && add_info(connection) < 0)) {
        return fail_memory(fault);
    }
    for (int i = 0;
         i < (settings->password != NULL) + (settings->name != NULL) + !!settings->db;
         i++) {
        expect(handshake, REDLANE_AWAITED_OK);
    }
    if (connection->asked_run_id) {
        expect(handshake, REDLANE_AWAITED_INFO);
    }
    return 0;
}

/* One answer has come. RAISES_NEG with a fault. */
static int
take_answer(RedlaneConnection *connection, RedlaneHandshake *handshake,
            const RedlanePlainReply *reply, RedlaneFault *fault)
{
    int unknown;

    switch (handshake->awaited[handshake->next++]) {
    case REDLANE_AWAITED_HELLO:
        unknown = read_hello(connection, reply, fault);
        for (int i = handshake->next; unknown > 0 && i < handshake->count; i++) {
            handshake->awaited[i] = REDLANE_AWAITED_SKIP;
        }
        handshake->unknown = unknown > 0;
        return unknown < 0 ? -1 : 0;
    case REDLANE_AWAITED_OK:
        return expect_ok(reply, fault);
    case REDLANE_AWAITED_INFO:
        read_info(connection, reply);
        break;
    case REDLANE_AWAITED_SKIP:
        break;
    }
    return 0;
}

int
redlane_handshake_begin_nogil(RedlaneConnection *connection,
                              const RedlaneSettings *settings,
                              RedlaneHandshake *handshake, RedlaneFault *fault)
{
    *handshake = (RedlaneHandshake){.settings = settings};
    connection->server_version[0] = connection->run_id[0] = '\0';
    connection->server_id = 0;
    connection->asked_run_id =
        atomic_load_explicit(&settings->wants_run_id, memory_order_relaxed);
    redlane_reader_build_with(&connection->reader, &redlane_reply_plain_functions,
                              &handshake->context);
    if (add_hello(connection, settings) < 0 ||
        (settings->db != 0 && add_select(connection, settings) < 0) ||
        (connection->asked_run_id && add_info(connection) < 0)) {
        return fail_memory(fault);
    }
    expect(handshake, REDLANE_AWAITED_HELLO);
    if (settings->db != 0) {
        expect(handshake, REDLANE_AWAITED_OK);
    }
    if (connection->asked_run_id) {
        expect(handshake, REDLANE_AWAITED_INFO);
    }
    return 0;
}

int
redlane_handshake_step_nogil(RedlaneConnection *connection, RedlaneHandshake *handshake,
                             RedlaneFault *fault)
{
    for (;;) {
        void *reply;
        int result;

        if (handshake->next == handshake->count) {
            if (!handshake->unknown || handshake->old) {
                return expect_nothing_more(connection, fault) < 0 ? -1 : 1;
            }
            if (begin_old_way(connection, handshake, fault) < 0) {
                return -1;
            }
            continue;
        }
        result = redlane_reader_next(&connection->reader, &reply, fault);
        if (result <= 0) {
            return result;
        }
        redlane_settings_note_answer(handshake->settings);
        result = take_answer(connection, handshake, reply, fault);
        redlane_reply_plain_free(reply);
        if (result < 0) {
            return -1;
        }
    }
}

/* A server that speaks TLS answers a plain HELLO with an alert (0x15), which is no
 * reply, or with the end. One that has answered before is away. */
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

void
redlane_handshake_end(RedlaneConnection *connection, const RedlaneHandshake *handshake,
                      RedlaneFault *fault)
{
    const RedlaneSettings *settings = handshake->settings;

    if (fault && settings->scheme == REDLANE_SCHEME_TCP && !settings->tls &&
        !atomic_load_explicit(&settings->answered, memory_order_relaxed)) {
        suspect_tls(connection, fault);
    }
    if (fault && fault->kind == REDLANE_FAULT_REPLY) {
        fault->text[redlane_error_line_shown(fault->text, strlen(fault->text),
                                             settings->password,
                                             settings->password_size)] = '\0';
    }
    /* The context ends with the handshake; the callbacks are needed to free what is
     * half built. */
    redlane_reader_build_with(&connection->reader, &redlane_reply_plain_functions,
                              NULL);
    drop_sent(connection);
}

int
redlane_handshake_nogil(RedlaneConnection *connection, const RedlaneSettings *settings,
                        const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlaneHandshake handshake;
    int result =
        redlane_handshake_begin_nogil(connection, settings, &handshake, fault) < 0 ? -1
                                                                                   : 0;

    while (result == 0) {
        result = redlane_handshake_step_nogil(connection, &handshake, fault);
        if (result == 0 && redlane_connection_turn_nogil(connection, wait, fault) < 0) {
            result = -1;
        }
    }
    redlane_handshake_end(connection, &handshake, result < 0 ? fault : NULL);
    return result < 0 ? -1 : 0;
}

/* One answer, which must not be an error. */
static int
await_ok(RedlaneConnection *connection, const RedlaneWait *wait, RedlaneFault *fault)
{
    RedlanePlainReply *reply = redlane_connection_answer_nogil(connection, wait, fault);
    int result = reply ? expect_ok(reply, fault) : -1;

    redlane_reply_plain_free(reply);
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
                 : await_ok(connection, wait, fault);
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
