/* Publishers, readers and trouble on the hubs of one process and a real server: what a
 * feed gives must be in order, without a hole that no gap covers, and within its
 * bounds. Built with the thread sanitizer.
 *
 * usage: stress HOST PORT SECONDS   (HOST with a slash: a unix socket)
 *
 * A message is "SOURCE CHANNEL NUMBER": each source counts for each channel from 1, and
 * the server has taken what was published. The last source publishes in this process
 * only. Prints what was done; fails on the first message that should not be there. */
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/platform.h"
#include "pubsub/hub.h"
#include "wire/connection.h"
#include "wire/encode.h"
#include "wire/handshake.h"

#define CHANNELS 8
#define SERVER_SOURCES 2
#define LOCAL SERVER_SOURCES
#define STREAMS ((SERVER_SOURCES + 1) * CHANNELS)
#define LOOP_FEEDS 20
#define PING (500 * REDLANE_NS_PER_MS)

typedef struct {
    uint64_t random;
    RedlaneConnection *connection;
    unsigned source;
    uint64_t sent, messages, gaps, dropped, feeds, kills;
} Worker;

/* A feed, and what it has given. */
typedef struct {
    RedlaneFeed *feed;
    size_t max_count;
    bool waits;
    uint64_t gaps;
    struct {
        uint64_t number, gaps; /* the newest, and how many gaps there were by then */
    } seen[STREAMS];
} Story;

static RedlaneSettings *settings;
static RedlaneHub *hub;
static atomic_bool over;

static uint64_t
draw(Worker *worker, uint64_t below)
{
    worker->random =
        worker->random * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (worker->random >> 33) % below;
}

static void
fail(const char *what)
{
    printf("%s\n", what);
    (void)fflush(stdout);
    _exit(1);
}

/* --- a connection each ---------------------------------------------------- */

static RedlaneWait
patience(void)
{
    return (RedlaneWait){.deadline = redlane_clock_now() + 60 * REDLANE_NS_PER_S};
}

static void
ask(Worker *worker, const RedlaneArg *argv, size_t argc)
{
    RedlaneWait wait = patience();
    RedlanePlainReply *reply;
    RedlaneFault fault;

    if (!worker->connection) {
        worker->connection = redlane_connection_new();
        if (!worker->connection ||
            redlane_connection_open_nogil(worker->connection, settings, &wait, &fault) <
                0) {
            fail("no connection");
        }
    }
    worker->connection->sent = worker->connection->out.size = 0;
    if (redlane_encode_command(&worker->connection->out, argv, argc) < 0) {
        abort();
    }
    reply = redlane_connection_answer_nogil(worker->connection, &wait, &fault);
    if (!reply || reply->kind == REDLANE_REPLY_ERROR) {
        fail("no answer");
    }
    redlane_reply_plain_free(reply);
}

/* --- who publishes -------------------------------------------------------- */

static void *
publish(void *argument)
{
    Worker *worker = argument;
    uint64_t numbers[CHANNELS] = {0};

    while (!atomic_load(&over)) {
        unsigned at = (unsigned)draw(worker, CHANNELS);
        char channel[16], payload[64];
        RedlaneArg argv[3] = {
            REDLANE_ARG_LITERAL("PUBLISH"), {channel, 0}, {payload, 0}};

        argv[1].size = (size_t)snprintf(channel, sizeof(channel), "chan:%u", at);
        argv[2].size = (size_t)snprintf(payload, sizeof(payload), "%u %u %" PRIu64,
                                        worker->source, at, ++numbers[at]);
        if (worker->source == LOCAL) {
            (void)redlane_hub_publish(settings, argv[1], argv[2]);
        }
        else {
            ask(worker, argv, 3);
        }
        worker->sent++;
        if (worker->source == LOCAL || draw(worker, 100) == 0) {
            (void)usleep((useconds_t)draw(worker, 3000));
        }
    }
    redlane_connection_free(worker->connection);
    return NULL;
}

/* --- what a feed gives ---------------------------------------------------- */

static void
take_message(Story *story, const RedlaneLetter *letter)
{
    RedlaneArg payload = redlane_letter_payload(letter);
    char text[64] = "";
    unsigned source, channel;
    uint64_t number, last;

    memcpy(text, payload.data, payload.size < 63 ? payload.size : 63);
    if (sscanf(text, "%u %u %" SCNu64, &source, &channel, &number) != 3) {
        fail("a message is torn");
    }
    last = story->seen[source * CHANNELS + channel].number;
    if (number <= last) {
        fail("a message came twice, or late");
    }
    if (last && number != last + 1 &&
        story->gaps == story->seen[source * CHANNELS + channel].gaps) {
        fail("a message is missing, and there was no gap");
    }
    story->seen[source * CHANNELS + channel].number = number;
    story->seen[source * CHANNELS + channel].gaps = story->gaps;
}

/* All that is there, or some. */
static void
read_feed(Worker *worker, Story *story, size_t most)
{
    RedlaneFeedStats stats;
    RedlaneLetter *letter;

    while (most-- && (letter = redlane_feed_take(story->feed))) {
        if (letter->is_gap) {
            story->gaps++;
            worker->gaps++;
        }
        else {
            take_message(story, letter);
            worker->messages++;
        }
        redlane_letter_release(letter);
    }
    redlane_feed_stats(story->feed, &stats);
    if (!story->waits && stats.count > story->max_count) {
        fail("a queue is longer than it may be");
    }
}

/* To all channels by a pattern, or to some of them by name. */
static void
open_feed(Worker *worker, Story *story, RedlaneHub *of, size_t max_count, bool waits)
{
    char names[CHANNELS][16];
    RedlaneArg list[CHANNELS] = {REDLANE_ARG_LITERAL("chan:*")};
    RedlaneSubscribe what = {
        .names = list, .count = 1, .max_bytes = 1 << 20, .waits = waits};
    RedlaneFault fault;

    *story = (Story){.max_count = max_count, .waits = waits};
    what.max_count = max_count;
    if (draw(worker, 2)) {
        what.count = what.channels = 1 + draw(worker, CHANNELS);
        for (size_t i = 0; i < what.count; i++) {
            list[i].data = names[i];
            list[i].size = (size_t)snprintf(names[i], sizeof(names[i]), "chan:%zu", i);
        }
    }
    story->feed = redlane_hub_subscribe(of, &what, &fault);
    if (!story->feed && fault.kind != REDLANE_FAULT_CLOSED) {
        fail("no feed");
    }
    worker->feeds += story->feed != NULL;
}

static void
close_feed(Worker *worker, Story *story)
{
    RedlaneFeedStats stats;

    if (!story->feed) {
        return;
    }
    redlane_hub_leave(story->feed);
    redlane_feed_stats(story->feed, &stats);
    worker->dropped += stats.dropped;
    redlane_feed_attach(story->feed, NULL);
    redlane_feed_release(story->feed);
    story->feed = NULL;
}

/* Something comes all the time: who is not woken for long was forgotten. */
static void
sleep_on(const RedlaneBell *bell)
{
    struct pollfd entry = {.fd = bell->wake[0], .events = POLLIN};

    for (int slices = 0; !atomic_load(&over); slices++) {
        if (poll(&entry, 1, 100) > 0) {
            redlane_platform_wake_drain(bell->wake);
            return;
        }
        if (slices == 300) {
            fail("a wake-up was lost");
        }
    }
}

/* --- who reads ------------------------------------------------------------ */

/* A thread with a feed of its own, which it leaves now and then. */
static void *
read_alone(void *argument)
{
    Worker *worker = argument;
    bool slow = worker->source == 1, waits = worker->source == 2;

    while (!atomic_load(&over)) {
        RedlaneHub *own = waits ? redlane_hub_new(settings, PING) : NULL;
        RedlaneBell *bell = redlane_bell_new();
        uint64_t turns = 1 + draw(worker, 3000);
        Story story;

        open_feed(worker, &story, waits ? own : hub, slow ? 50 : 5000, waits);
        redlane_hub_release(own);
        if (story.feed) {
            redlane_feed_attach(story.feed, bell);
        }
        while (story.feed && turns--) {
            RedlaneFeedState state = redlane_feed_state(story.feed, NULL);

            read_feed(worker, &story, SIZE_MAX);
            if (state >= REDLANE_FEED_REFUSED) {
                break;
            }
            if (redlane_feed_arm(story.feed, state)) {
                sleep_on(bell);
                (void)redlane_bell_take(bell);
            }
            if (slow || (waits && draw(worker, 100) == 0)) {
                (void)usleep((useconds_t)draw(worker, 40000));
            }
        }
        close_feed(worker, &story);
        redlane_bell_release(bell);
    }
    return NULL;
}

/* As an event loop: one bell for many feeds, some of which come and go. */
static void *
read_many(void *argument)
{
    Worker *worker = argument;
    RedlaneBell *bell = redlane_bell_new();
    static Story stories[LOOP_FEEDS];

    while (!atomic_load(&over)) {
        RedlaneFeed *feed;

        for (size_t i = 0; i < LOOP_FEEDS; i++) {
            if (!stories[i].feed || draw(worker, 200) == 0) {
                close_feed(worker, &stories[i]);
                open_feed(worker, &stories[i], hub, 200, false);
                if (!stories[i].feed) {
                    continue;
                }
                stories[i].feed->owner = &stories[i];
                redlane_feed_attach(stories[i].feed, bell);
                if (!redlane_feed_arm(stories[i].feed, REDLANE_FEED_JOINING) &&
                    redlane_bell_list(bell, stories[i].feed)) {
                    redlane_platform_wake_signal(bell->wake);
                }
            }
        }
        sleep_on(bell);
        while ((feed = redlane_bell_take(bell))) {
            RedlaneFeedState state = redlane_feed_state(feed, NULL);

            read_feed(worker, feed->owner, SIZE_MAX);
            if (!redlane_feed_arm(feed, state) && state < REDLANE_FEED_REFUSED) {
                (void)redlane_bell_list(bell, feed);
            }
        }
    }
    for (size_t i = 0; i < LOOP_FEEDS; i++) {
        close_feed(worker, &stories[i]);
    }
    redlane_bell_release(bell);
    return NULL;
}

/* --- trouble -------------------------------------------------------------- */

static void *
trouble(void *argument)
{
    Worker *worker = argument;
    const RedlaneArg kill[] = {REDLANE_ARG_LITERAL("CLIENT"),
                               REDLANE_ARG_LITERAL("KILL"), REDLANE_ARG_LITERAL("TYPE"),
                               REDLANE_ARG_LITERAL("pubsub")};
    const RedlaneArg pause[] = {REDLANE_ARG_LITERAL("CLIENT"),
                                REDLANE_ARG_LITERAL("PAUSE"),
                                REDLANE_ARG_LITERAL("30")};
    char text[232];

    while (!atomic_load(&over)) {
        Story story;
        RedlaneHub *other;

        (void)usleep((useconds_t)draw(worker, 100000));
        switch (draw(worker, 5)) {
        case 0:
            ask(worker, kill, 4);
            worker->kills++;
            break;
        case 1:
            ask(worker, pause, 3);
            break;
        case 2:
            (void)redlane_hub_take_notice(hub, text, sizeof(text));
            break;
        case 3: /* a hub that goes before it stands */
            other = redlane_hub_new(settings, PING);
            open_feed(worker, &story, other, 10, draw(worker, 2));
            redlane_hub_release(other);
            (void)usleep((useconds_t)draw(worker, 3000));
            close_feed(worker, &story);
            break;
        default: /* for nothing */
            redlane_hub_wake(hub);
        }
    }
    redlane_connection_free(worker->connection);
    return NULL;
}

/* --- all of them ---------------------------------------------------------- */

static int
run(unsigned seconds)
{
    static const struct {
        void *(*body)(void *);
        unsigned source;
    } roles[] = {{publish, 0},    {publish, 1},    {publish, LOCAL}, {read_alone, 0},
                 {read_alone, 1}, {read_alone, 2}, {read_many, 0},   {trouble, 0}};
    enum { WORKERS = sizeof(roles) / sizeof(*roles) };
    static Worker workers[WORKERS];
    pthread_t threads[WORKERS];
    Worker sum = {0};

    for (size_t i = 0; i < WORKERS; i++) {
        workers[i].random = (uint64_t)redlane_clock_now() + i * 7919;
        workers[i].source = roles[i].source;
        if (pthread_create(&threads[i], NULL, roles[i].body, &workers[i]) != 0) {
            return 2;
        }
    }
    (void)sleep(seconds);
    redlane_hub_shut(settings); /* while all of them are at work */
    (void)usleep(100000);
    atomic_store(&over, true);
    for (size_t i = 0; i < WORKERS; i++) {
        (void)pthread_join(threads[i], NULL);
        sum.sent += workers[i].sent;
        sum.messages += workers[i].messages;
        sum.gaps += workers[i].gaps;
        sum.dropped += workers[i].dropped;
        sum.feeds += workers[i].feeds;
        sum.kills += workers[i].kills;
    }
    printf("sent %" PRIu64 " messages %" PRIu64 " gaps %" PRIu64 " dropped %" PRIu64
           " feeds %" PRIu64 " kills %" PRIu64 "\n",
           sum.sent, sum.messages, sum.gaps, sum.dropped, sum.feeds, sum.kills);
    return redlane_hub_stop_all(30 * REDLANE_NS_PER_S) ? 0 : 3;
}

int
main(int argc, char **argv)
{
    RedlaneSettings draft = {.scheme = REDLANE_SCHEME_TCP,
                             .timeout = 60 * REDLANE_NS_PER_S,
                             .connect_timeout = 60 * REDLANE_NS_PER_S,
                             .max_reply = 1 << 20};
    int result;

    if (argc != 4) {
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
    settings = redlane_settings_new(&draft);
    hub = settings ? redlane_hub_new(settings, PING) : NULL;
    if (!hub) {
        return 2;
    }
    result = run((unsigned)atoi(argv[3]));
    redlane_hub_release(hub);
    redlane_settings_release(settings);
    return result;
}
