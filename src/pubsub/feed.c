#include "pubsub/feed.h"

#include <stdlib.h>
#include <string.h>

#include "core/platform.h"
#include "pubsub/hub.h"

#define RING_FIRST 64

static const char queue_full[] = "the queue was full";

/* --- life ----------------------------------------------------------------- */

RedlaneFeed *
redlane_feed_new(RedlaneHub *hub, size_t max_count, size_t max_bytes, bool waits)
{
    RedlaneFeed *feed = calloc(1, sizeof(*feed));

    if (feed) {
        atomic_init(&feed->references, 1);
        redlane_lock_init(&feed->lock);
        feed->hub = redlane_hub_hold(hub);
        feed->max_count = max_count;
        feed->max_bytes = max_bytes;
        feed->waits = waits;
    }
    return feed;
}

RedlaneFeed *
redlane_feed_hold(RedlaneFeed *feed)
{
    (void)atomic_fetch_add_explicit(&feed->references, 1, memory_order_relaxed);
    return feed;
}

static void
drop_all(RedlaneFeed *feed)
{
    for (size_t i = 0; i < feed->count; i++) {
        redlane_letter_release(feed->ring[(feed->first + i) & (feed->room - 1)]);
    }
    feed->count = feed->bytes = 0;
    redlane_letter_release(feed->front_lost);
    feed->front_lost = NULL;
}

void
redlane_feed_release(RedlaneFeed *feed)
{
    if (!feed ||
        atomic_fetch_sub_explicit(&feed->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    drop_all(feed);
    redlane_bell_release(feed->bell);
    redlane_hub_release(feed->hub);
    free(feed->ring);
    free(feed->topics);
    free(feed);
}

/* --- waking --------------------------------------------------------------- */

/* The bell to be signalled once the lock is given back, held, or NULL. */
static RedlaneBell *
ring_locked(RedlaneFeed *feed)
{
    if (!feed->armed || !feed->bell) {
        return NULL;
    }
    feed->armed = false;
    return redlane_bell_list(feed->bell, feed) ? redlane_bell_hold(feed->bell) : NULL;
}

static void
signal_bell(RedlaneBell *bell)
{
    if (bell) {
        redlane_platform_wake_signal(bell->wake);
        redlane_bell_release(bell);
    }
}

void
redlane_feed_attach(RedlaneFeed *feed, RedlaneBell *bell)
{
    RedlaneBell *old;

    redlane_lock(&feed->lock);
    old = feed->bell;
    feed->bell = bell ? redlane_bell_hold(bell) : NULL;
    feed->armed = false;
    redlane_unlock(&feed->lock);
    if (old) {
        redlane_bell_forget(old, feed);
        redlane_bell_release(old);
    }
}

bool
redlane_feed_arm(RedlaneFeed *feed, RedlaneFeedState seen)
{
    bool armed;

    redlane_lock(&feed->lock);
    armed = !feed->count && !feed->has_front_gap && feed->state == seen;
    feed->armed = armed;
    redlane_unlock(&feed->lock);
    return armed;
}

/* --- the queue ------------------------------------------------------------ */

static RedlaneLetter *
pop_locked(RedlaneFeed *feed)
{
    RedlaneLetter *letter = feed->ring[feed->first];

    feed->first = (feed->first + 1) & (feed->room - 1);
    feed->count--;
    feed->bytes -= redlane_letter_bytes(letter);
    return letter;
}

/* A hub that waits for this reader goes on once half of the room is free. */
static bool
has_made_room_locked(const RedlaneFeed *feed, size_t bytes_before)
{
    size_t count = feed->max_count / 2, bytes = feed->max_bytes / 2;

    return feed->count <= count && feed->bytes <= bytes &&
           (feed->count == count || bytes_before > bytes);
}

/* The gap at the oldest end. NULL when memory is exhausted: it is told later. */
static RedlaneLetter *
take_front_gap(RedlaneFeed *feed)
{
    RedlaneLetter *letter;

    redlane_lock(&feed->lock);
    letter = feed->front_lost;
    feed->front_lost = NULL;
    redlane_unlock(&feed->lock);
    if (!letter) {
        letter = redlane_letter_gap(queue_full, 0, 0);
    }
    if (letter) {
        redlane_lock(&feed->lock);
        letter->dropped = feed->front_dropped;
        feed->front_dropped = 0;
        feed->has_front_gap = feed->front_lost != NULL; /* it came meanwhile */
        feed->gaps++;
        redlane_unlock(&feed->lock);
    }
    return letter;
}

RedlaneLetter *
redlane_feed_take(RedlaneFeed *feed)
{
    RedlaneLetter *letter = NULL;
    bool has_gap, has_room = false;

    redlane_lock(&feed->lock);
    has_gap = feed->has_front_gap;
    if (feed->count && !has_gap) {
        size_t before = feed->bytes;

        letter = pop_locked(feed);
        feed->gaps += letter->is_gap;
        has_room = feed->waits && has_made_room_locked(feed, before);
    }
    redlane_unlock(&feed->lock);
    if (has_gap) {
        return take_front_gap(feed);
    }
    if (has_room) {
        redlane_hub_wake(feed->hub);
    }
    return letter;
}

/* True when the ring must grow before a letter is put: nothing will be dropped for it.
 */
static bool
lacks_room(RedlaneFeed *feed, bool may_drop)
{
    bool lacks;

    redlane_lock(&feed->lock);
    lacks = feed->count == feed->room &&
            !(may_drop && feed->count && feed->count >= feed->max_count);
    redlane_unlock(&feed->lock);
    return lacks;
}

/* Room for one more in the ring. The lock is not held while memory is asked for: only
 * who puts moves the end, and that is the caller. */
static bool
grow_ring(RedlaneFeed *feed)
{
    size_t room = feed->room ? 2 * feed->room : RING_FIRST;
    RedlaneLetter **ring = malloc(room * sizeof(*ring)), **old;

    if (!ring) {
        return false;
    }
    redlane_lock(&feed->lock);
    for (size_t i = 0; i < feed->count; i++) {
        ring[i] = feed->ring[(feed->first + i) & (feed->room - 1)];
    }
    old = feed->ring;
    feed->ring = ring;
    feed->room = room;
    feed->first = 0;
    redlane_unlock(&feed->lock);
    free(old);
    return true;
}

static bool
has_no_room_locked(const RedlaneFeed *feed, size_t bytes)
{
    return feed->count &&
           (feed->count >= feed->max_count || feed->bytes + bytes > feed->max_bytes);
}

/* What is dropped is told of at the oldest end. What is to be released then, or NULL.
 */
static RedlaneLetter *
drop_oldest_locked(RedlaneFeed *feed)
{
    RedlaneLetter *oldest = pop_locked(feed), *before = feed->front_lost;

    feed->has_front_gap = true;
    if (!oldest->is_gap) {
        feed->front_dropped++;
        feed->dropped++;
        return oldest;
    }
    feed->front_dropped += oldest->dropped;
    if (oldest->dropped) {
        return oldest;
    }
    if (before) {
        oldest->length += before->length;
    }
    feed->front_lost = oldest;
    return before;
}

/* Puts it in, and drops for it: what is to be released by who has no lock any more is
 * in `gone`, at most `most`; true when that was not enough. */
static bool
put_locked(RedlaneFeed *feed, RedlaneLetter *letter, bool may_drop,
           RedlaneLetter **gone, size_t most, size_t *count)
{
    size_t bytes = redlane_letter_bytes(letter);

    *count = 0;
    while (may_drop && has_no_room_locked(feed, bytes)) {
        if (*count == most) {
            return true;
        }
        gone[(*count)++] = drop_oldest_locked(feed);
    }
    feed->ring[(feed->first + feed->count++) & (feed->room - 1)] = letter;
    feed->bytes += bytes;
    return false;
}

#define DROPS_AT_ONCE 16

bool
redlane_feed_put(RedlaneFeed *feed, RedlaneLetter *letter, bool may_drop)
{
    RedlaneLetter *gone[DROPS_AT_ONCE];
    RedlaneBell *bell;
    size_t count;
    bool again;

    if (lacks_room(feed, may_drop) && !grow_ring(feed)) {
        return false;
    }
    do {
        redlane_lock(&feed->lock);
        again = put_locked(feed, letter, may_drop, gone, DROPS_AT_ONCE, &count);
        bell = again ? NULL : ring_locked(feed);
        redlane_unlock(&feed->lock);
        while (count) {
            redlane_letter_release(gone[--count]);
        }
    } while (again);
    signal_bell(bell);
    return true;
}

void
redlane_feed_count_dropped(RedlaneFeed *feed)
{
    redlane_lock(&feed->lock);
    feed->dropped++;
    redlane_unlock(&feed->lock);
}

bool
redlane_feed_is_full(RedlaneFeed *feed)
{
    bool full;

    redlane_lock(&feed->lock);
    full = feed->count >= feed->max_count || feed->bytes >= feed->max_bytes;
    redlane_unlock(&feed->lock);
    return full;
}

/* --- the state ------------------------------------------------------------ */

void
redlane_feed_set_state(RedlaneFeed *feed, RedlaneFeedState state,
                       const RedlaneFault *fault)
{
    RedlaneBell *bell = NULL;

    redlane_lock(&feed->lock);
    if (feed->state < REDLANE_FEED_REFUSED) {
        feed->state = state;
        if (fault) {
            feed->fault = *fault;
        }
        bell = ring_locked(feed);
    }
    redlane_unlock(&feed->lock);
    signal_bell(bell);
}

void
redlane_feed_rouse(RedlaneFeed *feed)
{
    RedlaneBell *bell;

    redlane_lock(&feed->lock);
    bell = ring_locked(feed);
    redlane_unlock(&feed->lock);
    signal_bell(bell);
}

RedlaneFeedState
redlane_feed_state(RedlaneFeed *feed, RedlaneFault *fault)
{
    RedlaneFeedState state;

    redlane_lock(&feed->lock);
    state = feed->state;
    if (fault) {
        *fault = feed->fault;
    }
    redlane_unlock(&feed->lock);
    return state;
}

void
redlane_feed_stats(RedlaneFeed *feed, RedlaneFeedStats *stats)
{
    redlane_lock(&feed->lock);
    *stats = (RedlaneFeedStats){feed->count, feed->bytes, feed->dropped, feed->gaps};
    redlane_unlock(&feed->lock);
}

void
redlane_feed_orphan(RedlaneFeed *feed)
{
    redlane_lock_init(&feed->lock);
    drop_all(feed);
    feed->has_front_gap = false;
    feed->armed = false;
    if (feed->state < REDLANE_FEED_REFUSED) {
        feed->state = REDLANE_FEED_FORKED;
    }
    if (feed->bell) {
        redlane_bell_orphan(feed->bell);
    }
}
