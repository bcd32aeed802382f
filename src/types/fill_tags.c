/* Tags of a fill: reading their generations beside the value, and comparing. Lock: the
 * GIL. */
#include "types/fill.h"
#include "types/fresh.h"

int
redlane_fill_tags_begin(RedlaneFill *fill)
{
    fill->tags = NULL;
    if (likely(!fill->namespaces && !fill->add_tags)) {
        return 0;
    }
    fill->tags = redlane_tags_new();
    if (!fill->tags ||
        (fill->namespaces && redlane_tags_add_keys(fill->tags, fill->namespaces) < 0) ||
        (fill->add_tags && fill->add_tags(fill->context, fill->tags) < 0)) {
        return -1;
    }
    if (fill->tags->count == 0) { /* a callable may name none */
        redlane_fill_tags_end(fill);
    }
    return 0;
}

void
redlane_fill_tags_end(RedlaneFill *fill)
{
    redlane_tags_free(fill->tags);
    fill->tags = NULL;
}

/* The same for what needs more than one command. */
static PyObject *
ask_for_all(const RedlaneFill *fill, RedlaneVector first, RedlaneToolManner *manner,
            PyObject **pttl, bool make)
{
    RedlaneArg ask[] = {REDLANE_ARG_LITERAL("PTTL"), first.argv[1]};
    RedlaneTagsCommand command;
    RedlaneVector vectors[3] = {first};
    PyObject *replies[3];
    RedlaneAnswer answer = REDLANE_ANSWER_SERVER;
    size_t count = 1;

    if (manner->near_read) {
        vectors[count++] =
            (RedlaneVector){ask, 2, redlane_command_by_id(REDLANE_CMD_PTTL)};
        redlane_tags_ticket(fill->tags, fill->near);
    }
    fill->tags->asked_ms = redlane_fresh_px(fill);
    redlane_tags_command(fill->tags, make, fill->tags->asked_ms, &command);
    vectors[count++] = command.vector;
    if (!manner->answer) {
        manner->answer = &answer;
    }
    fill->tags->known = false;
    if (redlane_tool_run(fill->tool, vectors, count, manner, replies) < 0) {
        return NULL;
    }
    redlane_tags_take(fill->tags, replies[count - 1]);
    if (*manner->answer == REDLANE_ANSWER_NOTHING && replies[0] == Py_None) {
        fill->tags->known = false; /* nobody answered, or keeps what was made */
    }
    Py_DECREF(replies[count - 1]);
    if (manner->near_read) {
        *pttl = replies[1];
    }
    if (PyExceptionInstance_Check(replies[0])) {
        PyErr_SetObject((PyObject *)Py_TYPE(replies[0]), replies[0]);
        Py_CLEAR(*pttl);
        Py_CLEAR(replies[0]);
    }
    return replies[0];
}

PyObject *
redlane_fill_ask(const RedlaneFill *fill, RedlaneCommandId id, const RedlaneArg *argv,
                 size_t argc, RedlaneToolManner manner, RedlaneNearFill *near_fill,
                 PyObject **pttl, bool make)
{
    const RedlaneCommand *command = redlane_command_by_id(id);
    RedlaneArg named[1 + REDLANE_TOOL_ARGS] = {{command->name, strlen(command->name)}};

    *pttl = NULL;
    manner.near_read = near_fill ? &near_fill->read : NULL;
    if (unlikely(fill->tags)) {
        memcpy(named + 1, argv, argc * sizeof(*argv));
        return ask_for_all(fill, (RedlaneVector){named, argc + 1, command}, &manner,
                           pttl, make);
    }
    return near_fill
               ? redlane_tool_execute_pttl(fill->tool, id, argv, argc, &manner, pttl)
               : redlane_tool_execute_as(fill->tool, id, argv, argc, &manner);
}

/* What a header carries besides what the fill asks for; NULL where that is nothing, or
 * with an exception set. */
static RedlaneTags *
find_extras(const RedlaneFill *fill, const RedlaneEnvelope *header)
{
    RedlaneTags *extras = NULL;
    RedlaneEnvelopeTag tag;
    size_t at = 0;

    while (redlane_envelope_next_tag(header, &at, &tag)) {
        if (redlane_tags_find(fill->tags, tag.id, tag.id_size)) {
            continue;
        }
        extras = extras ? extras : redlane_tags_new();
        if (!extras || redlane_tags_add_key(extras, tag.id, tag.id_size) < 0) {
            redlane_tags_free(extras);
            return NULL;
        }
    }
    return extras;
}

/* The generations of what a value carries besides. RAISES_NEG */
static int
ask_for_extras(const RedlaneFill *fill, RedlaneTags *extras)
{
    bool near = redlane_fill_has_near(fill);
    RedlaneNearRead read = {.near = fill->near};
    const RedlaneToolManner manner = {.read = true, .near_read = near ? &read : NULL};
    RedlaneLink *link = near ? redlane_link_hold(fill->tool->link) : NULL;
    int result;

    redlane_tags_ticket(extras, near ? fill->near : NULL);
    result = redlane_tags_ask(extras, fill->tool, false, 0, &manner);
    if (link) { /* whose near cache it is */
        redlane_link_release(link);
    }
    for (size_t i = 0; !read.known && i < extras->count; i++) {
        extras->tickets[i].generation = 0; /* not to be kept near */
    }
    return result;
}

/* Adds what stored bytes carry besides. 1: done, 0: there is no room. RAISES_NEG */
static int
add_extras(const RedlaneFill *fill, PyObject *stored, RedlaneTags *shared)
{
    RedlaneEnvelope header;
    RedlaneEnvelopeTag tag;
    size_t at = 0, more = 0;

    if (!PyBytes_Check(stored) || !redlane_envelope_is_marked(stored) ||
        redlane_envelope_read(PyBytes_AS_STRING(stored),
                              (size_t)PyBytes_GET_SIZE(stored),
                              &header) != REDLANE_STORED_ENVELOPE) {
        return 1;
    }
    while (redlane_envelope_next_tag(&header, &at, &tag)) {
        more += !redlane_tags_find(fill->tags, tag.id, tag.id_size) &&
                !redlane_tags_find(shared, tag.id, tag.id_size);
    }
    if (more > REDLANE_ENVELOPE_TAGS_MAX - shared->count) {
        return 0;
    }
    at = 0;
    while (redlane_envelope_next_tag(&header, &at, &tag)) {
        if (!redlane_tags_find(fill->tags, tag.id, tag.id_size) &&
            redlane_tags_add_key(shared, tag.id, tag.id_size) < 0) {
            return -1;
        }
    }
    return 1;
}

RedlaneTags *
redlane_fill_tags_share(const RedlaneFill *fill, PyObject *values, Py_ssize_t *next)
{
    RedlaneTags *shared = redlane_tags_new();
    int result = shared ? 1 : -1;

    while (result == 1 && *next < PyList_GET_SIZE(values)) {
        result = add_extras(fill, PyList_GET_ITEM(values, *next), shared);
        *next += result == 1;
    }
    if (result >= 0 && shared->count) {
        if (ask_for_extras(fill, shared) == 0) {
            return shared;
        }
        if (PyErr_ExceptionMatches(fill->tool->state->ReplyError)) {
            (void)redlane_fill_forgive(fill); /* one of them is in the way */
        }
    }
    redlane_tags_free(shared);
    return NULL;
}

/* Whether all that a header carries besides is among what was asked for at once. */
static bool
is_shared(const RedlaneFill *fill, const RedlaneEnvelope *header)
{
    RedlaneEnvelopeTag tag;
    size_t at = 0;

    while (redlane_envelope_next_tag(header, &at, &tag)) {
        const RedlaneEnvelopeTag *now;

        if (redlane_tags_find(fill->tags, tag.id, tag.id_size)) {
            continue;
        }
        now = redlane_tags_find(fill->shared, tag.id, tag.id_size);
        if (!now || !fill->shared->there[now - fill->shared->items] ||
            now->generation != tag.generation) {
            return false;
        }
    }
    return true;
}

int
redlane_fill_tags_check(const RedlaneFill *fill, const RedlaneEnvelope *header)
{
    RedlaneTags *extras;
    int result;

    if (fill->tags && !redlane_tags_are_in(fill->tags, header)) {
        return 0;
    }
    if (likely(!(header->fields & REDLANE_ENVELOPE_TAGS))) {
        return 1;
    }
    if (fill->shared) {
        return is_shared(fill, header);
    }
    extras = find_extras(fill, header);
    if (!extras) {
        return PyErr_Occurred() ? -1 : 1;
    }
    result = ask_for_extras(fill, extras);
    if (result < 0 && PyErr_ExceptionMatches(fill->tool->state->ReplyError)) {
        result = redlane_fill_forgive(fill); /* what the header names is in the way */
    }
    if (result == 0) {
        result = redlane_tags_are_in(extras, header);
    }
    if (fill->extras) {
        redlane_tags_free(*fill->extras);
        *fill->extras = extras;
    }
    else {
        redlane_tags_free(extras);
    }
    return result;
}

static const RedlaneNearTicket *
ticket_of(const RedlaneTags *tags, const RedlaneEnvelopeTag *tag)
{
    const RedlaneEnvelopeTag *mine = redlane_tags_find(tags, tag->id, tag->id_size);

    return mine ? &tags->tickets[mine - tags->items] : NULL;
}

int
redlane_fill_tags_tickets(const RedlaneFill *fill, PyObject *stored,
                          RedlaneNearTicket *tickets)
{
    RedlaneEnvelope header;
    RedlaneEnvelopeTag tag;
    size_t at = 0;
    int count = 0;

    if (likely(!redlane_envelope_is_marked(stored)) ||
        redlane_envelope_read(PyBytes_AS_STRING(stored),
                              (size_t)PyBytes_GET_SIZE(stored),
                              &header) != REDLANE_STORED_ENVELOPE) {
        return 0;
    }
    while (redlane_envelope_next_tag(&header, &at, &tag)) {
        const RedlaneNearTicket *ticket = ticket_of(fill->tags, &tag);

        if (!ticket && fill->shared) {
            ticket = ticket_of(fill->shared, &tag);
        }
        else if (!ticket && fill->extras) {
            ticket = ticket_of(*fill->extras, &tag);
        }
        if (!ticket || !ticket->generation) {
            return -1;
        }
        tickets[count++] = *ticket;
    }
    return count;
}

int
redlane_fill_tags_prolong(const RedlaneFill *fill)
{
    int64_t asked = fill->tags ? fill->tags->asked_ms : 0;
    int64_t ttl_ms = redlane_fresh_px(fill);
    RedlaneTagsCommand command;
    PyObject *reply;

    if (asked == 0 || (ttl_ms != 0 && ttl_ms <= asked) || !fill->tags->known) {
        return 0;
    }
    /* What it replies is not taken: the value is of the generations of before. */
    redlane_tags_command(fill->tags, true, ttl_ms, &command);
    if (redlane_tool_run(fill->tool, &command.vector, 1, &redlane_tool_reads, &reply) <
        0) {
        return redlane_fill_forgive(fill);
    }
    Py_DECREF(reply);
    return 0;
}
