/* Readers, writers and trouble on one near cache and a real server: whatever is read
 * near must not be older than promised. Built with the thread sanitizer.
 *
 * usage: stress HOST PORT SECONDS INTERVAL_MS MAX_BYTES [PORT]
 *   (HOST with a slash: a unix socket; the second port: another way to the server, for
 *   the foreign writer)
 *
 * Every key holds the number of its newest write. An own writer (it kills before and
 * after) must be seen at once, a foreign one (it tells nobody) two ping intervals after
 * it was answered at the latest, however the link fares and whichever thread gets no
 * processor. Prints what was done; fails on the first value that is too old. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "near/near.h"
#include "wire/connection.h"
#include "wire/encode.h"
#include "wire/handshake.h"

#define KEYS 50
#define READERS 3
#define LOG 65536 /* of one key's writes: a reader looks that far back */
#define OWN 1     /* the lowest bit of a time: who wrote */

typedef struct {
    pthread_mutex_t lock; /* of its writers */
    char name[16];
    atomic_uint_fast64_t newest;
    atomic_int_fast64_t answered[LOG]; /* by number; 0: not known to be done */
} Key;

typedef struct {
    uint64_t random;
    RedlaneSettings *settings;
    RedlaneConnection *connection;
    char run_id[48];
    RedlaneNearEntry *held[KEYS]; /* a reader's: looked at without a lock */
    uint64_t hits, fills, writes, flushes;
    int64_t oldest; /* age of the oldest value read near, ns */
} Worker;

static Key keys[KEYS];
static RedlaneNear *near;
static atomic_bool over;
static int64_t interval;

static uint64_t
draw(Worker *worker, uint64_t below)
{
    worker->random =
        worker->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (worker->random >> 33) % below;
}

/* --- one connection each --------------------------------------------------- */

static void
drop(Worker *worker)
{
    redlane_connection_free(worker->connection);
    worker->connection = NULL;
}

static RedlanePlainReply *
receive(Worker *worker)
{
    RedlaneWait wait = {.deadline = redlane_clock_now() + 2 * REDLANE_NS_PER_S};
    RedlaneFault fault;

    return redlane_connection_answer_nogil(worker->connection, &wait, &fault);
}

/* Puts a command of words with single spaces into what is sent next. */
static void
say(Worker *worker, const char *line)
{
    RedlaneArg argv[8];
    size_t argc = 0;

    for (const char *at = line; at; at = strchr(at, ' ')) {
        at += *at == ' ';
        argv[argc++] = (RedlaneArg){at, strcspn(at, " ")};
    }
    if (worker->connection->sent == worker->connection->out.size) {
        worker->connection->sent = worker->connection->out.size = 0;
    }
    if (redlane_encode_command(&worker->connection->out, argv, argc) < 0) {
        abort();
    }
}

/* An open connection that knows its server; false when there is none now. */
static bool
connected(Worker *worker)
{
    RedlaneWait wait = {.deadline = redlane_clock_now() + 5 * REDLANE_NS_PER_S};
    RedlanePlainReply *info;
    RedlaneFault fault;
    const char *at;

    if (worker->connection) {
        return true;
    }
    worker->connection = redlane_connection_new();
    if (!worker->connection ||
        redlane_connection_open_nogil(worker->connection, worker->settings, &wait,
                                      &fault) < 0) {
        drop(worker);
        return false;
    }
    say(worker, "INFO server");
    info = receive(worker);
    at = info ? strstr(info->text, "run_id:") : NULL;
    if (at) {
        (void)snprintf(worker->run_id, sizeof(worker->run_id), "%.40s", at + 7);
    }
    else {
        drop(worker);
    }
    redlane_reply_plain_free(info);
    return at != NULL;
}

/* --- what must hold -------------------------------------------------------- */

/* A value was read near by a read that began at `begun`. */
static void
check_age(Worker *worker, Key *key, uint64_t number, int64_t begun)
{
    uint64_t newest = atomic_load(&key->newest);

    for (uint64_t next = number + 1; next <= newest; next++) {
        int64_t answered = atomic_load(&key->answered[next % LOG]);
        int64_t age = begun - answered;

        if (!answered || age <= 0) {
            continue;
        }
        if (newest - number >= LOG || (answered & OWN) || age > 2 * interval) {
            printf("%s: %" PRIu64 " was read %" PRId64
                   " us after %s had written %" PRIu64 "\n",
                   key->name, number, age / 1000, answered & OWN ? "itself" : "another",
                   next);
            (void)fflush(stdout);
            _exit(1);
        }
        if (age > worker->oldest) {
            worker->oldest = age;
        }
    }
}

static void
free_some_dead(size_t most)
{
    void *value;

    while (most-- && (value = redlane_near_take_dead(near))) {
        free(value);
    }
}

static void
let_go(RedlaneNearEntry *entry)
{
    if (entry) {
        free(redlane_near_entry_release(entry));
    }
}

/* --- readers --------------------------------------------------------------- */

static void
fill(Worker *worker, Key *key, size_t at)
{
    size_t size = strlen(key->name);
    RedlaneNearTicket ticket = redlane_near_ticket(near, key->name, size);
    RedlanePlainReply *value, *pttl = NULL;
    char line[64];

    (void)snprintf(line, sizeof(line), "GET %s", key->name);
    say(worker, line);
    (void)snprintf(line, sizeof(line), "PTTL %s", key->name);
    say(worker, line);
    value = receive(worker);
    pttl = value ? receive(worker) : NULL;
    if (!pttl) {
        drop(worker);
    }
    else if (value->kind == REDLANE_REPLY_BULK &&
             redlane_near_is_same_server(near, worker->run_id)) {
        uint64_t *number = malloc(sizeof(*number));

        *number = strtoull(value->text, NULL, 10);
        if (draw(worker, 8) == 0) {
            (void)usleep((useconds_t)draw(worker, 300)); /* the race of the reply */
        }
        worker->held[at] =
            redlane_near_store(near, key->name, size, &ticket,
                               &(RedlaneNearOffer){.value = number,
                                                   .cost = 50,
                                                   .pttl_ms = pttl->number,
                                                   .near_ttl_ms = 20000});
        if (!worker->held[at]) {
            free(number);
        }
        free_some_dead(3);
        worker->fills++;
    }
    redlane_reply_plain_free(value);
    redlane_reply_plain_free(pttl);
}

static void *
read_on(void *argument)
{
    Worker *worker = argument;

    while (!atomic_load(&over)) {
        size_t at = draw(worker, KEYS);
        Key *key = &keys[at];
        int64_t begun = redlane_clock_now();
        RedlaneNearEntry *entry = worker->held[at];

        if (!entry || !redlane_near_is_hit(near, entry, redlane_clock_coarse())) {
            let_go(entry);
            begun = redlane_clock_now();
            entry = worker->held[at] =
                redlane_near_find(near, key->name, strlen(key->name));
        }
        if (entry) {
            redlane_near_entry_visit(entry);
            check_age(worker, key, *(uint64_t *)entry->value, begun);
            worker->hits++;
        }
        else if (connected(worker)) {
            fill(worker, key, at);
        }
    }
    for (size_t i = 0; i < KEYS; i++) {
        let_go(worker->held[i]);
    }
    drop(worker);
    return NULL;
}

/* --- writers --------------------------------------------------------------- */

static void
write_one(Worker *worker, Key *key, bool own)
{
    char line[64];
    RedlanePlainReply *reply;
    uint64_t number;
    bool done;

    (void)pthread_mutex_lock(&key->lock);
    number = atomic_load(&key->newest) + 1;
    atomic_store(&key->answered[number % LOG], 0);
    atomic_store(&key->newest, number);
    (void)snprintf(line, sizeof(line), "SET %s %" PRIu64 "%s", key->name, number,
                   number % 3 ? "" : " PX 400");
    if (own) {
        redlane_near_kill(near, key->name, strlen(key->name));
    }
    say(worker, line);
    reply = receive(worker);
    done = reply && reply->kind == REDLANE_REPLY_STATUS;
    if (own) {
        redlane_near_kill(near, key->name, strlen(key->name));
    }
    if (done) {
        int64_t now = redlane_clock_now();

        atomic_store(&key->answered[number % LOG], own ? now | OWN : now & ~OWN);
        worker->writes++;
    }
    (void)pthread_mutex_unlock(&key->lock);
    if (!reply) {
        drop(worker);
    }
    redlane_reply_plain_free(reply);
}

static void *
write_own(void *argument)
{
    Worker *worker = argument;

    while (!atomic_load(&over)) {
        if (connected(worker)) {
            write_one(worker, &keys[draw(worker, KEYS)], true);
        }
        (void)usleep((useconds_t)draw(worker, 2000));
    }
    drop(worker);
    return NULL;
}

static void *
write_foreign(void *argument)
{
    Worker *worker = argument;

    while (!atomic_load(&over)) {
        if (connected(worker)) {
            write_one(worker, &keys[draw(worker, KEYS)], false);
        }
        (void)usleep((useconds_t)draw(worker, 2000));
    }
    drop(worker);
    return NULL;
}

/* --- trouble --------------------------------------------------------------- */

/* All keys go: a write of nothing to each of them. */
static void
flush_all(Worker *worker)
{
    RedlanePlainReply *reply;
    int64_t now;

    for (size_t i = 0; i < KEYS; i++) {
        (void)pthread_mutex_lock(&keys[i].lock);
        atomic_store(&keys[i].answered[(atomic_load(&keys[i].newest) + 1) % LOG], 0);
        (void)atomic_fetch_add(&keys[i].newest, 1);
    }
    say(worker, "FLUSHALL");
    reply = receive(worker);
    now = redlane_clock_now() & ~(int64_t)OWN;
    for (size_t i = 0; i < KEYS; i++) {
        if (reply && reply->kind == REDLANE_REPLY_STATUS) {
            atomic_store(&keys[i].answered[atomic_load(&keys[i].newest) % LOG], now);
        }
        (void)pthread_mutex_unlock(&keys[i].lock);
    }
    if (!reply) {
        drop(worker);
    }
    redlane_reply_plain_free(reply);
    worker->flushes++;
}

static void
ask(Worker *worker, const char *line)
{
    RedlanePlainReply *reply;

    say(worker, line);
    reply = receive(worker);
    if (!reply) {
        drop(worker);
    }
    redlane_reply_plain_free(reply);
}

static void *
trouble(void *argument)
{
    Worker *worker = argument;
    int prefixes = 0;
    char text[32];

    while (!atomic_load(&over)) {
        /* and now and then a calm in which a lost message would show */
        (void)usleep((useconds_t)draw(worker, draw(worker, 4) ? 60000 : 900000));
        if (!connected(worker)) {
            continue;
        }
        switch (draw(worker, 8)) {
        case 0:
            flush_all(worker);
            break;
        case 1:
            ask(worker, "CLIENT KILL TYPE pubsub");
            break;
        case 2:
            ask(worker, "CLIENT KILL TYPE normal SKIPME no");
            break;
        case 3:
            (void)snprintf(text, sizeof(text), "CLIENT PAUSE %d",
                           (int)draw(worker, 100) + 1);
            ask(worker, text);
            break;
        case 4:
            (void)snprintf(text, sizeof(text), "more:%d:", prefixes++ % 40);
            (void)redlane_near_watch(near, text, strlen(text));
            break;
        case 5:
            redlane_near_kill_all(near);
            break;
        case 6:
            redlane_near_kill_prefix(near, "key:1", 5);
            break;
        default:
            free_some_dead(1000);
        }
    }
    drop(worker);
    return NULL;
}

int
main(int argc, char **argv)
{
    RedlaneSettings draft = {.scheme = REDLANE_SCHEME_TCP,
                             .timeout = REDLANE_NS_PER_S,
                             .connect_timeout = 2 * REDLANE_NS_PER_S,
                             .max_reply = 1 << 20};
    void *(*const bodies[])(void *) = {read_on,   read_on,       read_on,
                                       write_own, write_foreign, trouble};
    enum { WORKERS = sizeof(bodies) / sizeof(*bodies) };
    static Worker workers[WORKERS];
    pthread_t threads[WORKERS];
    RedlaneSettings *settings, *foreign;
    Worker sum = {0};
    RedlaneNearStats stats;

    if (argc != 6 && argc != 7) {
        return 2;
    }
    draft.port = atoi(argv[2]);
    if (strchr(argv[1], '/')) {
        draft.scheme = REDLANE_SCHEME_UNIX;
        draft.path = argv[1];
    }
    else {
        draft.host = argv[1];
    }
    interval = atoi(argv[4]) * REDLANE_NS_PER_MS;
    settings = foreign = redlane_settings_new(&draft);
    if (argc == 7) {
        draft.port = atoi(argv[6]);
        foreign = redlane_settings_new(&draft);
    }
    near = redlane_near_new(settings, (size_t)atoi(argv[5]), interval);
    for (size_t i = 0; i < KEYS; i++) {
        (void)pthread_mutex_init(&keys[i].lock, NULL);
        (void)snprintf(keys[i].name, sizeof(keys[i].name), "key:%zu", i);
    }
    if (!redlane_near_watch(near, "key:", 4)) {
        return 2;
    }
    for (size_t i = 0; i < WORKERS; i++) {
        workers[i].settings = bodies[i] == write_foreign ? foreign : settings;
        workers[i].random = (uint64_t)redlane_clock_now() + i * 7919;
        if (pthread_create(&threads[i], NULL, bodies[i], &workers[i]) != 0) {
            return 2;
        }
    }
    (void)sleep((unsigned)atoi(argv[3]));
    atomic_store(&over, true);
    for (size_t i = 0; i < WORKERS; i++) {
        (void)pthread_join(threads[i], NULL);
        sum.hits += workers[i].hits;
        sum.fills += workers[i].fills;
        sum.writes += workers[i].writes;
        sum.flushes += workers[i].flushes;
        sum.oldest = workers[i].oldest > sum.oldest ? workers[i].oldest : sum.oldest;
    }
    redlane_near_stats(near, &stats);
    printf("hits %" PRIu64 " fills %" PRIu64 " writes %" PRIu64 " flushes %" PRIu64
           " links %" PRIu64 " stores %" PRIu64 " overtaken %" PRIu64
           " evictions %" PRIu64 " invalidations %" PRIu64
           " bytes %zu oldest_us %" PRId64 "\n",
           sum.hits, sum.fills, sum.writes, sum.flushes, stats.links, stats.stores,
           stats.overtaken, stats.evictions, stats.invalidations, stats.bytes,
           sum.oldest / 1000);
    redlane_near_close(near);
    free_some_dead(SIZE_MAX);
    if (!redlane_near_stop_all(10 * REDLANE_NS_PER_S)) {
        return 3;
    }
    redlane_near_release(near);
    if (foreign != settings) {
        redlane_settings_release(foreign);
    }
    redlane_settings_release(settings);
    return 0;
}
