/* The scripts of Presence as native code, made of the engine's own commands: who is
 * online is asked and changed some times a second, so that their replies, which are
 * read back here, cost nothing that counts.
 *
 * Plain C, with the engine's lock held. */
#include <string.h>

#include "core/command.h"
#include "core/number.h"
#include "store/engine_scripts.h"

enum { USERS, CONNECTIONS, COUNTS, SERVERS, KEYS }; /* in this order in KEYS */

#define NO_LEASE REDLANE_ARG_LITERAL("9000000000000000")

/* One command, and its reply read back. An error ends the script: it is its reply. */
typedef struct {
    RedlaneEngine *engine;
    RedlaneReply *reply; /* the script's own */
    RedlaneReply result;
    RedlaneNode node; /* the first of result */
    bool failed;
} Run;

static void
run_end(Run *run)
{
    redlane_buffer_free(&run->result.nodes);
}

static const RedlaneNode *
run_command(Run *run, RedlaneCommandId id, RedlaneEngineHandler handler,
            const RedlaneArg *rest, size_t count)
{
    const RedlaneCommand *command = redlane_command_by_id(id);
    RedlaneArg argv[4] = {{command->name, strlen(command->name)}};
    RedlaneVector vector = {argv, count + 1, command};
    size_t offset = 0;

    memset(&run->node, 0, sizeof(run->node));
    if (run->failed) {
        return &run->node;
    }
    memcpy(argv + 1, rest, count * sizeof(*rest));
    run->result.nodes.size = 0;
    handler(run->engine, &vector, &run->result);
    if (run->result.failed || !redlane_reply_next(&run->result, &offset, &run->node)) {
        run->reply->failed = run->failed = true;
    }
    else if (run->node.kind == REDLANE_REPLY_ERROR) {
        char text[128];
        size_t size =
            run->node.size < sizeof(text) - 1 ? run->node.size : sizeof(text) - 1;

        memcpy(text, run->node.data, size);
        text[size] = '\0';
        run->reply->nodes.size = 0; /* in the place of what it had begun to say */
        redlane_reply_error(run->reply, text);
        run->failed = true;
    }
    return &run->node;
}

#define RUN(run, name, ...)                                          \
    run_command((run), REDLANE_CMD_##name, redlane_engine_do_##name, \
                (const RedlaneArg[]){__VA_ARGS__},                   \
                sizeof((const RedlaneArg[]){__VA_ARGS__}) / sizeof(RedlaneArg))

/* Whether the script's servers know that owner; *till is when its lease ends. */
static bool
find_owner(Run *run, const RedlaneScriptCall *call, RedlaneArg owner, double *till)
{
    const RedlaneNode *node = RUN(run, ZSCORE, call->keys[SERVERS], owner);

    *till = 0;
    return node->kind == REDLANE_REPLY_BULK &&
           redlane_number_parse_double(node->data, node->size, till);
}

/* How many leases have ended. */
static size_t
count_dead(Run *run, const RedlaneScriptCall *call, const RedlaneContainer **servers)
{
    const RedlaneEntry *entry = redlane_engine_find(run->engine, call->keys[SERVERS]);
    double now = (double)redlane_clock_unix_ms();
    size_t dead = 0;

    *servers = NULL;
    if (run->failed || !entry || entry->type != REDLANE_VALUE_ZSET) {
        return 0; /* of another type: the commands say so */
    }
    *servers = entry->container;
    while (dead < entry->container->table.count &&
           entry->container->order[dead]->score <= now) {
        dead++;
    }
    return dead;
}

void
redlane_script_presence_join(RedlaneEngine *engine, const RedlaneScriptCall *call,
                             RedlaneReply *reply)
{
    const RedlaneArg *keys = call->keys, *argv = call->argv;
    Run run = {.engine = engine, .reply = reply};
    const RedlaneContainer *servers;
    char text[REDLANE_INT64_TEXT];
    RedlaneArg till = NO_LEASE;
    int64_t lease, came = 0;
    double unused;
    bool known;

    if (!redlane_arg_int64(argv[1], &lease, reply)) {
        return;
    }
    if (lease) {
        till = (RedlaneArg){
            text, redlane_number_format_int64(text, redlane_clock_unix_ms() + lease)};
    }
    known = find_owner(&run, call, argv[0], &unused);
    (void)RUN(&run, ZADD, keys[SERVERS], till, argv[0]);
    for (size_t i = 2; i + 1 < call->args; i += 2) {
        if (RUN(&run, HSET, keys[CONNECTIONS], argv[i + 1], argv[0])->number) {
            (void)RUN(&run, HINCRBY, keys[COUNTS], argv[i], REDLANE_ARG_LITERAL("1"));
        }
        came += RUN(&run, SADD, keys[USERS], argv[i])->number;
    }
    if (!run.failed) {
        redlane_reply_array(reply, 3);
        redlane_reply_integer(reply, known);
        redlane_reply_integer(reply, (int64_t)count_dead(&run, call, &servers));
        redlane_reply_integer(reply, came);
    }
    run_end(&run);
}

static bool
same(const RedlaneNode *node, RedlaneArg text)
{
    return node->kind == REDLANE_REPLY_BULK && node->size == text.size &&
           memcmp(node->data, text.data, text.size) == 0;
}

/* Ends one connection of that owner; 1 when its user went with it. */
static int64_t
end_connection(Run *run, const RedlaneScriptCall *call, RedlaneArg owner,
               RedlaneArg user, RedlaneArg connection)
{
    const RedlaneArg *keys = call->keys;

    if (!same(RUN(run, HGET, keys[CONNECTIONS], connection), owner)) {
        return 0;
    }
    (void)RUN(run, HDEL, keys[CONNECTIONS], connection);
    if (RUN(run, HINCRBY, keys[COUNTS], user, REDLANE_ARG_LITERAL("-1"))->number > 0 ||
        run->failed) {
        return 0;
    }
    (void)RUN(run, HDEL, keys[COUNTS], user);
    return RUN(run, SREM, keys[USERS], user)->number;
}

void
redlane_script_presence_leave(RedlaneEngine *engine, const RedlaneScriptCall *call,
                              RedlaneReply *reply)
{
    const RedlaneArg *argv = call->argv;
    Run run = {.engine = engine, .reply = reply};
    const RedlaneContainer *servers;
    bool known, mine, last = argv[2].size == 1 && argv[2].data[0] == '1';
    int64_t went = 0;
    double till;

    known = find_owner(&run, call, argv[0], &till);
    mine = argv[0].size == argv[1].size &&
           memcmp(argv[0].data, argv[1].data, argv[0].size) == 0;
    if (mine || !find_owner(&run, call, argv[1], &till) ||
        till <= (double)redlane_clock_unix_ms()) {
        for (size_t i = 3; i + 1 < call->args; i += 2) {
            went += end_connection(&run, call, argv[1], argv[i], argv[i + 1]);
        }
        if (last) {
            (void)RUN(&run, ZREM, call->keys[SERVERS], argv[1]);
        }
    }
    if (!run.failed) {
        redlane_reply_array(reply, 3);
        redlane_reply_integer(reply, known);
        redlane_reply_integer(reply, (int64_t)count_dead(&run, call, &servers));
        redlane_reply_integer(reply, went);
    }
    run_end(&run);
}

void
redlane_script_presence_read(RedlaneEngine *engine, const RedlaneScriptCall *call,
                             RedlaneReply *reply)
{
    const RedlaneArg *keys = call->keys, *argv = call->argv;
    Run run = {.engine = engine, .reply = reply};
    RedlaneVector users = {(const RedlaneArg[]){{"", 0}, keys[USERS], argv[2]}, 3,
                           redlane_command_by_id(REDLANE_CMD_SISMEMBER)};
    const RedlaneContainer *servers;
    double unused;
    bool known = find_owner(&run, call, argv[0], &unused);
    size_t dead = count_dead(&run, call, &servers), before;

    if (!run.failed) {
        redlane_reply_array(reply, 3);
        redlane_reply_integer(reply, known);
        redlane_reply_integer(reply, (int64_t)dead);
        before = reply->nodes.size;
        switch (argv[1].size ? argv[1].data[0] : '\0') {
        case 'm':
            redlane_engine_do_SMEMBERS(engine, &users, reply);
            break;
        case 'c':
            redlane_engine_do_SCARD(engine, &users, reply);
            break;
        case 'o':
            redlane_engine_do_SISMEMBER(engine, &users, reply);
            break;
        default: /* the dead */
            redlane_reply_array(reply, dead);
            for (size_t i = 0; i < dead; i++) {
                redlane_reply_bulk(reply, servers->order[i]->bytes,
                                   servers->order[i]->item.key_size);
            }
            break;
        }
        if (!reply->failed && reply->nodes.data[before] == REDLANE_REPLY_ERROR) {
            size_t size = reply->nodes.size - before;

            memmove(reply->nodes.data, reply->nodes.data + before, size);
            reply->nodes.size = size;
        }
    }
    run_end(&run);
}
