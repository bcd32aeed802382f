#include "pubsub/link.h"

#include <stdlib.h>
#include <string.h>

#include "core/fault.h"
#include "wire/encode.h"

#define COMMANDS_FIRST 16
/* Receives in a row before the PING and the thread's end get their look. */
#define RECEIVES_MOST 64

static int
fail_memory(RedlaneFault *fault)
{
    redlane_fault_set(fault, REDLANE_FAULT_MEMORY, "out of memory");
    return -1;
}

static int
fail_unasked(RedlaneFault *fault)
{
    redlane_fault_set(fault, REDLANE_FAULT_PROTOCOL,
                      "the server sent what nobody asked for");
    return -1;
}

/* RedlaneMessages.deliver, with the hub's lock */
static bool
take_message(void *owner, RedlaneArg channel, const RedlaneArg *pattern,
             RedlaneArg payload)
{
    return redlane_topics_deliver(owner, channel, pattern, payload, false) >= 0;
}

RedlaneHubLink *
redlane_hub_link_open_nogil(RedlaneHub *hub, const RedlaneWait *wait,
                            RedlaneFault *fault)
{
    RedlaneHubLink *link = calloc(1, sizeof(*link));

    if (link) {
        link->hub = hub;
        link->messages.deliver = take_message;
        link->messages.owner = hub;
        link->connection = redlane_connection_new();
    }
    if (!link || !link->connection) {
        redlane_hub_link_close(link);
        (void)fail_memory(fault);
        return NULL;
    }
    if (redlane_connection_open_nogil(link->connection, hub->settings, wait, fault) <
        0) {
        redlane_hub_link_close(link);
        return NULL;
    }
    redlane_messages_read_with(&link->connection->reader, &link->messages);
    link->heard_at = link->pinged_at = redlane_clock_now();
    return link;
}

void
redlane_hub_link_close(RedlaneHubLink *link)
{
    if (link) {
        redlane_connection_free(link->connection);
        redlane_messages_clear(&link->messages);
        free(link->commands);
        free(link);
    }
}

/* --- what is asked --- */

static int
reserve_command(RedlaneHubLink *link)
{
    size_t room = link->room ? 2 * link->room : COMMANDS_FIRST;
    RedlaneHubCommand *commands;

    if (link->count < link->room) {
        return 0;
    }
    commands = malloc(room * sizeof(*commands));
    if (!commands) {
        return -1;
    }
    for (size_t i = 0; i < link->count; i++) {
        commands[i] = link->commands[(link->first + i) & (link->room - 1)];
    }
    free(link->commands);
    link->commands = commands;
    link->room = room;
    link->first = 0;
    return 0;
}

static int
add_command(RedlaneHubLink *link, const RedlaneArg *argv, size_t argc,
            RedlaneHubCommand command)
{
    RedlaneConnection *connection = link->connection;

    if (connection->sent == connection->out.size) {
        connection->sent = connection->out.size = 0;
    }
    if (reserve_command(link) < 0 ||
        redlane_encode_command(&connection->out, argv, argc) < 0) {
        return -1;
    }
    link->commands[(link->first + link->count++) & (link->room - 1)] = command;
    return 0;
}

static int
add_ping(RedlaneHubLink *link, RedlaneFault *fault)
{
    const RedlaneArg ping = REDLANE_ARG_LITERAL("PING");

    if (add_command(link, &ping, 1, (RedlaneHubCommand){0}) < 0) {
        return fail_memory(fault);
    }
    link->pinged_at = redlane_clock_now();
    return 0;
}

/* Commands about the topics that have changed; with the hub's lock. */
static int
add_topics_locked(RedlaneHubLink *link, RedlaneFault *fault)
{
    static const RedlaneArg names[2][2] = {
        {{"UNSUBSCRIBE", 11}, {"PUNSUBSCRIBE", 12}},
        {{"SUBSCRIBE", 9}, {"PSUBSCRIBE", 10}},
    };
    RedlaneTopic *topic;

    while ((topic = redlane_topics_next(link->hub))) {
        bool subscribes = topic->count > 0;
        RedlaneArg argv[2] = {names[subscribes][topic->by_pattern],
                              {topic->name, topic->item.key_size}};

        if (add_command(link, argv, 2, (RedlaneHubCommand){topic, subscribes}) < 0) {
            return fail_memory(fault);
        }
        topic->pending++;
        topic->asked = subscribes;
        topic->confirmed = false;
    }
    return 0;
}

/* --- what is answered --- */

static bool
is_about(const RedlaneMessages *messages, const RedlaneHubCommand *command)
{
    const RedlaneTopic *topic = command->topic;

    return topic &&
           command->subscribes == (messages->kind == REDLANE_MESSAGE_SUBSCRIBED) &&
           topic->by_pattern == messages->by_pattern &&
           topic->item.key_size == messages->topic.size &&
           (messages->topic.size == 0 || /* its copy may have no bytes at all */
            memcmp(topic->name, messages->topic.data, messages->topic.size) == 0);
}

/* What the server will not allow, now and later, as against "not now". */
static bool
is_refusal(const RedlaneFault *fault)
{
    return !redlane_fault_is_crowded(fault) &&
           redlane_fault_of_reply(fault->text, strlen(fault->text)) ==
               REDLANE_FAULT_NONE;
}

/* The answer to the oldest command; with the hub's lock. */
static int
take_answer_locked(RedlaneHubLink *link, RedlaneFault *fault)
{
    const RedlaneMessages *messages = &link->messages;
    RedlaneHubCommand command;
    RedlaneTopic *topic;

    if (!link->count) {
        if (messages->kind == REDLANE_MESSAGE_ERROR) {
            *fault = messages->fault; /* its last words */
            return -1;
        }
        return fail_unasked(fault);
    }
    command = link->commands[link->first];
    topic = command.topic;
    if (messages->kind == REDLANE_MESSAGE_ERROR) {
        if (!topic || !command.subscribes || !is_refusal(&messages->fault)) {
            *fault = messages->fault;
            return -1;
        }
        if (topic->pending == 1) { /* nothing newer has been said of it */
            redlane_topic_refuse(link->hub, topic, &messages->fault);
        }
    }
    else if (messages->kind == REDLANE_MESSAGE_PONG ? topic != NULL
                                                    : !is_about(messages, &command)) {
        return fail_unasked(fault);
    }
    else if (command.subscribes && topic->pending == 1) {
        redlane_topic_confirm(link->hub, topic);
    }
    link->first = (link->first + 1) & (link->room - 1);
    link->count--;
    if (topic) {
        redlane_topic_settle(link->hub, topic);
    }
    return 0;
}

/* What has been received, until a feed that waits is full; with the hub's lock. */
static int
read_replies_locked(RedlaneHubLink *link, RedlaneFault *fault)
{
    void *reply;
    int got = 0;

    while (!link->hub->starved &&
           (got = redlane_reader_next(&link->connection->reader, &reply, fault)) > 0) {
        if (link->messages.kind != REDLANE_MESSAGE_PAYLOAD &&
            take_answer_locked(link, fault) < 0) {
            return -1;
        }
    }
    return got < 0 ? -1 : 0;
}

/* --- serving --- */

/* A thread that did not get to run for long has not given the server its time. */
static int64_t
silence_ends(const RedlaneHubLink *link)
{
    int64_t interval = link->hub->ping_interval;
    int64_t heard = link->heard_at + 2 * interval, asked = link->pinged_at + interval;

    return heard > asked ? heard : asked;
}

int64_t
redlane_hub_link_due(const RedlaneHubLink *link)
{
    int64_t since = link->heard_at > link->pinged_at ? link->heard_at : link->pinged_at;

    if (link->starved) {
        return REDLANE_NEVER; /* what the server says is not read now */
    }
    return link->count ? silence_ends(link) : since + link->hub->ping_interval;
}

static int
look_after_ping(RedlaneHubLink *link, RedlaneFault *fault)
{
    if (redlane_clock_now() < redlane_hub_link_due(link)) {
        return 0;
    }
    if (link->count) {
        redlane_fault_set(fault, REDLANE_FAULT_TIMEOUT, "the server does not answer");
        return -1;
    }
    return add_ping(link, fault);
}

/* Looks whether those that wait have read on. */
static void
feed_again_locked(RedlaneHubLink *link)
{
    RedlaneHub *hub = link->hub;

    if (!hub->starved) {
        return;
    }
    hub->starved = false;
    for (RedlaneFeed *feed = hub->feeds; feed; feed = feed->next) {
        hub->starved = hub->starved || (feed->waits && redlane_feed_is_full(feed));
    }
    if (!hub->starved) { /* the server could not be heard meanwhile */
        link->heard_at = redlane_clock_now();
    }
}

/* As redlane_hub_link_serve_nogil, for what comes. */
static int
receive(RedlaneHubLink *link, RedlaneFault *fault)
{
    RedlaneHub *hub = link->hub;
    int got = 1;

    for (int i = 0; i < RECEIVES_MOST && got > 0; i++) {
        int result;

        (void)pthread_mutex_lock(&hub->lock);
        /* What came before the queue was full is still to be handed on. */
        result = add_topics_locked(link, fault);
        feed_again_locked(link);
        if (result == 0) {
            result = read_replies_locked(link, fault);
        }
        link->starved = hub->starved;
        got = !link->starved;
        (void)pthread_mutex_unlock(&hub->lock);
        if (result < 0) {
            return -1;
        }
        if (got > 0) {
            got = redlane_connection_receive_nogil(link->connection, fault);
        }
        if (got > 0) {
            link->heard_at = redlane_clock_now();
        }
    }
    return got;
}

int
redlane_hub_link_serve_nogil(RedlaneHubLink *link, RedlaneFault *fault)
{
    RedlaneConnection *connection = link->connection;
    int got = receive(link, fault);

    if (got < 0 || look_after_ping(link, fault) < 0) {
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
