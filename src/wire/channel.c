/* Which connection of a loop takes a request. GIL held. */
#include "wire/channel.h"

#include "core/clock.h"
#include "py/errors.h"
#include "wire/stream.h"

/* --- the members of a loop --- */

static void
unlink_home(RedlaneChannel *channel)
{
    if (channel->place) {
        *channel->place = channel->next;
        if (channel->next) {
            channel->next->place = channel->place;
        }
        channel->place = NULL;
    }
    channel->home = NULL;
}

static void
free_channel(RedlaneChannel *channel)
{
    unlink_home(channel);
    redlane_settings_release(channel->settings);
    PyMem_Free(channel);
}

/* One that ends may run anything, which may end others: leaving the list moves the
 * cursors on. */
static void
retire_streams(RedlaneChannel *channel)
{
    channel->retiring = channel->streams;
    while (channel->retiring) {
        RedlaneStream *stream = channel->retiring;

        channel->retiring = stream->next;
        redlane_stream_retire(stream);
    }
}

static int64_t
channel_tick(RedlaneLoopMember *member, int64_t now)
{
    RedlaneChannel *channel = (RedlaneChannel *)member;
    int64_t next = REDLANE_NEVER;

    if (channel->closing) {
        retire_streams(channel);
    }
    channel->ticked = channel->streams;
    while (channel->ticked) {
        RedlaneStream *stream = channel->ticked;
        int64_t due;

        channel->ticked = stream->next;
        due = redlane_stream_tick(stream, now);
        next = due < next ? due : next;
    }
    if (channel->closing && !channel->streams) {
        redlane_loop_leave(channel->loop, &channel->member);
        free_channel(channel);
        return REDLANE_NEVER;
    }
    return next;
}

static void
channel_drop(RedlaneLoopMember *member)
{
    RedlaneChannel *channel = (RedlaneChannel *)member;

    unlink_home(channel); /* a request may have been the last to hold what owns it */
    while (channel->streams) {
        redlane_stream_drop(channel->streams);
    }
    free_channel(channel);
}

static int
channel_traverse(RedlaneLoopMember *member, visitproc visit, void *arg)
{
    for (RedlaneStream *stream = ((RedlaneChannel *)member)->streams; stream;
         stream = stream->next) {
        Py_VISIT(stream);
    }
    return 0;
}

/* --- finding and closing --- */

static RedlaneChannel *
new_channel(RedlaneChannels *channels, RedlaneLoop *loop)
{
    RedlaneChannel *channel = PyMem_Calloc(1, sizeof(*channel));

    if (!channel) {
        PyErr_NoMemory();
        return NULL;
    }
    channel->member = (RedlaneLoopMember){
        .tick = channel_tick, .drop = channel_drop, .traverse = channel_traverse};
    channel->loop = loop;
    channel->state = channels->state;
    channel->settings = redlane_settings_hold(channels->settings);
    redlane_loop_join(loop, &channel->member);
    return channel;
}

static void
link_home(RedlaneChannels *channels, RedlaneChannel *channel)
{
    channel->home = channels;
    channel->next = channels->first;
    channel->place = &channels->first;
    if (channel->next) {
        channel->next->place = &channel->next;
    }
    channels->first = channel;
}

RedlaneChannel *
redlane_channels_find(RedlaneChannels *channels, RedlaneLoop *loop)
{
    RedlaneChannel *channel = channels->first;

    if (likely(channel && channel->loop == loop)) {
        return channel;
    }
    if (channels->closed) { /* what was under way has more to ask */
        channel = new_channel(channels, loop);
        if (channel) {
            channel->last = true;
        }
        return channel;
    }
    while (channel && channel->loop != loop) {
        channel = channel->next;
    }
    if (channel) {
        unlink_home(channel);
    }
    else {
        channel = new_channel(channels, loop);
    }
    if (channel) {
        link_home(channels, channel);
    }
    return channel;
}

void
redlane_channels_close(RedlaneChannels *channels)
{
    PyObject *type, *value, *traceback;

    channels->closed = true;
    PyErr_Fetch(&type, &value, &traceback); /* a link may end while one is raised */
    while (channels->first) {
        RedlaneChannel *channel = channels->first;
        RedlaneLoop *loop = channel->loop;

        Py_INCREF((PyObject *)loop);
        unlink_home(channel);
        channel->closing = true;
        if (redlane_loop_is_running(loop)) {
            retire_streams(channel);
            /* It is freed by the tick: whoever called may be one of its own. */
            (void)redlane_loop_wake_at(loop, 0);
            redlane_errors_put_off();
        }
        else if (!redlane_loop_call_threadsafe(loop) &&
                 redlane_loop_has(loop, &channel->member)) {
            /* The loop is closed, and no other thread has found that meanwhile. */
            redlane_loop_leave(loop, &channel->member);
            channel_drop(&channel->member);
        }
        Py_DECREF((PyObject *)loop);
    }
    PyErr_Restore(type, value, traceback);
}

size_t
redlane_channels_count(const RedlaneChannels *channels)
{
    size_t count = 0;

    for (const RedlaneChannel *channel = channels->first; channel;
         channel = channel->next) {
        for (const RedlaneStream *stream = channel->streams; stream;
             stream = stream->next) {
            count++;
        }
    }
    return count;
}

/* --- sending --- */

/* One that may take this request, or NULL. */
static RedlaneStream *
usable_stream(RedlaneChannel *channel, const RedlaneErrand *errand)
{
    RedlaneStream *stream = channel->current;

    if (!stream || errand->alone) {
        return NULL;
    }
    if (unlikely(errand->names_server && stream->phase >= REDLANE_STREAM_GREETS &&
                 !stream->connection->asked_run_id)) {
        redlane_stream_retire(stream); /* what it has goes on */
        return NULL;
    }
    return stream;
}

/* When a stream that was just made wants to be ticked. */
static int64_t
first_look(const RedlaneStream *stream)
{
    int64_t look =
        stream->alone ? redlane_clock_now() + REDLANE_STREAM_LOOK : REDLANE_NEVER;
    int64_t due = stream->phase < REDLANE_STREAM_READY ? redlane_stream_open_due(stream)
                                                       : REDLANE_NEVER;

    return look < due ? look : due;
}

int
redlane_channel_send(RedlaneChannel *channel, RedlaneErrand *errand)
{
    RedlaneStream *stream = usable_stream(channel, errand);
    RedlaneFault fault;
    int result = 0;

    if (likely(stream != NULL)) {
        return redlane_stream_push(stream, errand);
    }
    if (channel->closing) {
        redlane_fault_set(&fault, REDLANE_FAULT_CLOSED, "closed");
        errand->over(errand, -1, &fault);
        return 0;
    }
    stream = redlane_stream_new(channel);
    if (!stream) {
        return -1;
    }
    Py_INCREF(stream);
    stream->alone = errand->alone;
    stream->retired = errand->alone || channel->last;
    if (channel->last) {
        channel->closing = true;
    }
    else if (!errand->alone) {
        channel->current = stream;
    }
    result = redlane_stream_push(stream, errand);
    if (result < 0) {
        redlane_fault_set(&fault, REDLANE_FAULT_MEMORY, "out of memory");
        redlane_stream_end(stream, &fault);
    }
    else if (stream->phase != REDLANE_STREAM_ENDED &&
             redlane_stream_open(stream, &fault) < 0) {
        redlane_stream_end(stream, &fault);
    }
    else if (stream->phase != REDLANE_STREAM_ENDED &&
             redlane_loop_wake_at(channel->loop, first_look(stream)) < 0) {
        redlane_errors_put_off(); /* its errand's deadline is armed */
    }
    Py_DECREF(stream);
    return result;
}
