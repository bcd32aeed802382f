/* Topics: which feeds want what, what the server has been asked for, and where a
 * message goes. Lock: the hub's, held by all callers. */
#include <stdlib.h>
#include <string.h>

#include "core/glob.h"
#include "core/platform.h"
#include "pubsub/hub_internal.h"

static const char too_large[] = "a message was larger than the queue may be";

void
redlane_topics_init(RedlaneHub *hub)
{
    redlane_hash_seed(&hub->seed);
    for (int kind = 0; kind < 2; kind++) {
        redlane_table_init(&hub->topics[kind], offsetof(RedlaneTopic, name));
    }
    hub->listed_end = &hub->listed;
}

void
redlane_topics_free(RedlaneHub *hub)
{
    for (int kind = 0; kind < 2; kind++) {
        RedlaneTable *table = &hub->topics[kind];

        for (RedlaneSlot *slot = redlane_table_from(table, 0); slot;
             slot = redlane_table_next(table, slot)) {
            free(((RedlaneTopic *)slot->item)->feeds);
            free(slot->item);
        }
        redlane_table_free(table);
    }
}

size_t
redlane_topics_count(const RedlaneHub *hub, bool by_pattern)
{
    const RedlaneTable *table = &hub->topics[by_pattern];
    size_t count = 0;

    for (RedlaneSlot *slot = redlane_table_from(table, 0); slot;
         slot = redlane_table_next(table, slot)) {
        count += ((const RedlaneTopic *)slot->item)->count > 0;
    }
    return count;
}

static RedlaneTopic *
find_topic(RedlaneHub *hub, RedlaneArg name, bool by_pattern)
{
    RedlaneTable *table = &hub->topics[by_pattern];
    uint64_t hash = redlane_table_hash(&hub->seed, name.data, name.size);
    RedlaneSlot *slot = redlane_table_find(table, hash, name.data, name.size);

    return slot ? (RedlaneTopic *)slot->item : NULL;
}

static RedlaneTopic *
add_topic(RedlaneHub *hub, RedlaneArg name, bool by_pattern)
{
    uint64_t hash = redlane_table_hash(&hub->seed, name.data, name.size);
    RedlaneTopic *topic = NULL;

    if (name.size <= UINT32_MAX) {
        topic = calloc(1, sizeof(*topic) + name.size);
    }
    if (!topic) {
        return NULL;
    }
    topic->item.key_size = (uint32_t)name.size;
    topic->by_pattern = by_pattern;
    topic->confirmed = hub->is_local;
    memcpy(topic->name, name.data, name.size);
    if (!redlane_table_insert(&hub->topics[by_pattern], hash, &topic->item)) {
        free(topic);
        return NULL;
    }
    return topic;
}

/* For the server to be told; where there is none, all is told when there is one. */
static void
list_topic(RedlaneHub *hub, RedlaneTopic *topic)
{
    if (!topic->listed && hub->connected) {
        topic->listed = true;
        topic->next_listed = NULL;
        *hub->listed_end = topic;
        hub->listed_end = &topic->next_listed;
    }
}

/* Frees it where nobody wants it and the server has nothing to hear or to say of it. */
static void
free_if_unused(RedlaneHub *hub, RedlaneTopic *topic)
{
    RedlaneTable *table = &hub->topics[topic->by_pattern];
    uint64_t hash;

    if (topic->count || topic->asked || topic->listed || topic->pending) {
        return;
    }
    hash = redlane_table_hash(&hub->seed, topic->name, topic->item.key_size);
    redlane_table_remove(
        table, redlane_table_find(table, hash, topic->name, topic->item.key_size));
    free(topic->feeds);
    free(topic);
}

RedlaneTopic *
redlane_topics_next(RedlaneHub *hub)
{
    RedlaneTopic *topic;

    while ((topic = hub->listed)) {
        hub->listed = topic->next_listed;
        if (!hub->listed) {
            hub->listed_end = &hub->listed;
        }
        topic->listed = false;
        if (topic->asked != (topic->count > 0)) {
            return topic;
        }
        free_if_unused(hub, topic);
    }
    return NULL;
}

static bool
has_feed(const RedlaneTopic *topic, const RedlaneFeed *feed)
{
    /* A feed joins all of its topics at once: it is the newest where it is at all. */
    return topic->count && topic->feeds[topic->count - 1] == feed;
}

static bool
reserve_feed(RedlaneTopic *topic)
{
    size_t room = topic->room ? 2 * topic->room : 1;
    RedlaneFeed **feeds;

    if (topic->count < topic->room) {
        return true;
    }
    feeds = realloc(topic->feeds, room * sizeof(RedlaneFeed *));
    if (feeds) {
        topic->feeds = feeds;
        topic->room = room;
    }
    return feeds != NULL;
}

bool
redlane_topic_join(RedlaneHub *hub, RedlaneFeed *feed, RedlaneArg name, bool by_pattern)
{
    RedlaneTopic *topic = find_topic(hub, name, by_pattern);

    if (!topic) {
        topic = add_topic(hub, name, by_pattern);
    }
    if (!topic) {
        return false;
    }
    if (has_feed(topic, feed)) {
        return true; /* it was named twice */
    }
    if (!reserve_feed(topic)) {
        free_if_unused(hub, topic);
        return false;
    }
    topic->feeds[topic->count++] = feed;
    feed->topics[feed->topic_count++] = topic;
    feed->unconfirmed += !topic->confirmed;
    if (!topic->asked) {
        list_topic(hub, topic);
    }
    return true;
}

static void
leave_topic(RedlaneHub *hub, RedlaneTopic *topic, const RedlaneFeed *feed)
{
    for (size_t i = 0; i < topic->count; i++) {
        if (topic->feeds[i] == feed) {
            memmove(topic->feeds + i, topic->feeds + i + 1,
                    (topic->count - i - 1) * sizeof(RedlaneFeed *));
            topic->count--;
            break;
        }
    }
    if (!topic->count && topic->asked) {
        list_topic(hub, topic);
    }
    free_if_unused(hub, topic);
}

void
redlane_topics_leave(RedlaneHub *hub, RedlaneFeed *feed)
{
    for (size_t i = 0; i < feed->topic_count; i++) {
        leave_topic(hub, feed->topics[i], feed);
    }
    feed->topic_count = feed->unconfirmed = 0;
}

void
redlane_topic_settle(RedlaneHub *hub, RedlaneTopic *topic)
{
    topic->pending--;
    free_if_unused(hub, topic);
}

/* --- what the server says ------------------------------------------------- */

static bool
tell_gap(RedlaneFeed *feed, const char *reason, uint64_t dropped, int64_t length)
{
    RedlaneLetter *letter = redlane_letter_gap(reason, dropped, length);

    if (!letter) {
        return false;
    }
    if (!redlane_feed_put(feed, letter, !feed->waits)) {
        redlane_letter_release(letter);
        return false;
    }
    return true;
}

static void
make_live(RedlaneFeed *feed)
{
    if (feed->owes_gap) {
        RedlaneFault fault;

        (void)redlane_feed_state(feed, &fault);
        if (!fault.text[0]) { /* nothing was lost: it took long */
            redlane_fault_set(&fault, REDLANE_FAULT_TIMEOUT, "it was not live yet");
        }
        /* Without memory for the word of it, the next gap says it. */
        feed->owes_gap = !tell_gap(feed, redlane_fault_shown(fault.text), 0,
                                   redlane_clock_now() - feed->lost_at);
    }
    redlane_feed_set_state(feed, REDLANE_FEED_LIVE, NULL);
}

void
redlane_topic_confirm(RedlaneHub *hub, RedlaneTopic *topic)
{
    (void)hub;
    if (topic->confirmed) {
        return;
    }
    topic->confirmed = true;
    for (size_t i = 0; i < topic->count; i++) {
        if (--topic->feeds[i]->unconfirmed == 0) {
            make_live(topic->feeds[i]);
        }
    }
}

void
redlane_topic_refuse(RedlaneHub *hub, RedlaneTopic *topic, const RedlaneFault *fault)
{
    topic->asked = false;
    while (topic->count) {
        RedlaneFeed *feed = topic->feeds[topic->count - 1];

        redlane_feed_set_state(feed, REDLANE_FEED_REFUSED, fault);
        redlane_topics_leave(hub, feed);
    }
}

static void
lose_feed(RedlaneHub *hub, RedlaneFeed *feed, const RedlaneFault *fault, bool refused)
{
    RedlaneFeedState state = redlane_feed_state(feed, NULL);

    if (!fault && state == REDLANE_FEED_JOINING) { /* it came as all others had left */
        feed->unconfirmed = feed->topic_count;
        return;
    }
    if (refused && state == REDLANE_FEED_JOINING) {
        redlane_feed_set_state(feed, REDLANE_FEED_REFUSED, fault);
        redlane_topics_leave(hub, feed);
        return;
    }
    if (!feed->owes_gap) {
        feed->owes_gap = true;
        feed->lost_at = redlane_clock_now();
    }
    feed->unconfirmed = feed->topic_count;
    if (state != REDLANE_FEED_LOST) { /* else its gap has a reason */
        redlane_feed_set_state(feed, REDLANE_FEED_LOST, fault);
    }
}

/* Those that only an answer of the server kept. A topic may be missed whose hash is
 * that of another: it goes next time. */
static void
free_unused(RedlaneHub *hub, RedlaneTable *table)
{
    RedlaneSlot *slot = redlane_table_from(table, 0);

    while (slot) {
        uint64_t hash = slot->hash;

        free_if_unused(hub, (RedlaneTopic *)slot->item);
        slot = redlane_table_from(table, hash + 1);
    }
}

void
redlane_topics_lose(RedlaneHub *hub, const RedlaneFault *fault, bool refused)
{
    hub->connected = hub->starved = false;
    hub->listed = NULL;
    hub->listed_end = &hub->listed;
    for (int kind = 0; kind < 2; kind++) {
        RedlaneTable *table = &hub->topics[kind];

        for (RedlaneSlot *slot = redlane_table_from(table, 0); slot;
             slot = redlane_table_next(table, slot)) {
            RedlaneTopic *topic = (RedlaneTopic *)slot->item;

            topic->asked = topic->confirmed = topic->listed = false;
            topic->pending = 0;
        }
        free_unused(hub, table);
    }
    for (RedlaneFeed *feed = hub->feeds; feed; feed = feed->next) {
        lose_feed(hub, feed, fault, refused);
    }
}

void
redlane_topics_list_all(RedlaneHub *hub)
{
    hub->connected = true;
    for (int kind = 0; kind < 2; kind++) {
        RedlaneTable *table = &hub->topics[kind];

        for (RedlaneSlot *slot = redlane_table_from(table, 0); slot;
             slot = redlane_table_next(table, slot)) {
            list_topic(hub, (RedlaneTopic *)slot->item);
        }
    }
}

/* --- messages ------------------------------------------------------------- */

/* What a feed could not even hold alone is told of in its place. */
static bool
put_letter(RedlaneFeed *feed, RedlaneLetter *letter, bool may_drop)
{
    if (may_drop && redlane_letter_bytes(letter) > feed->max_bytes) {
        redlane_feed_count_dropped(feed);
        return tell_gap(feed, too_large, 1, 0);
    }
    if (!redlane_feed_put(feed, redlane_letter_hold(letter), may_drop)) {
        redlane_letter_release(letter);
        return false;
    }
    return true;
}

int64_t
redlane_topics_deliver(RedlaneHub *hub, RedlaneArg channel, const RedlaneArg *pattern,
                       RedlaneArg payload, bool all)
{
    RedlaneTopic *topic =
        find_topic(hub, pattern ? *pattern : channel, pattern != NULL);
    RedlaneLetter *letter = NULL;
    int64_t count = 0;

    for (size_t i = 0; topic && i < topic->count; i++) {
        RedlaneFeed *feed = topic->feeds[i];

        if (feed->unconfirmed && !all) {
            continue; /* before its gap: not complete */
        }
        if (!letter && !(letter = redlane_letter_message(channel, pattern, payload))) {
            return -1;
        }
        /* Who publishes here cannot wait for a reader, which may be itself. */
        if (!put_letter(feed, letter, all || !feed->waits)) {
            count = -1;
            break;
        }
        hub->starved = hub->starved || (feed->waits && redlane_feed_is_full(feed));
        if (all && feed->waits) { /* what had filled it may have been dropped */
            redlane_platform_wake_signal(hub->wake);
        }
        count++;
    }
    redlane_letter_release(letter);
    return count;
}

/* As PSUBSCRIBE's: "*" is no channel without a name, though KEYS has it match the key
 * without one. */
static bool
matches(RedlaneArg pattern, RedlaneArg channel)
{
    return channel.size ? redlane_glob_match(pattern.data, pattern.size, channel.data,
                                             channel.size)
                        : pattern.size == 0;
}

size_t
redlane_topics_publish(RedlaneHub *hub, RedlaneArg channel, RedlaneArg payload)
{
    RedlaneTable *patterns = &hub->topics[1];
    int64_t count = redlane_topics_deliver(hub, channel, NULL, payload, true);
    size_t all = count > 0 ? (size_t)count : 0;

    for (RedlaneSlot *slot = redlane_table_from(patterns, 0); slot;
         slot = redlane_table_next(patterns, slot)) {
        const RedlaneTopic *topic = (const RedlaneTopic *)slot->item;
        const RedlaneArg name = {topic->name, topic->item.key_size};

        if (matches(name, channel)) {
            count = redlane_topics_deliver(hub, channel, &name, payload, true);
            all += count > 0 ? (size_t)count : 0;
        }
    }
    return all;
}
