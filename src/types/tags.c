/* The tags of one value. Lock: the GIL. */
#include "types/tags.h"

#include "core/hash.h"
#include "core/number.h"
#include "py/digest.h"
#include "py/state.h"

#define TAG_HEAD "@tag:"

/* A TTL of more ms (30,000 years) is none: the script doubles it. */
#define TTL_MAX INT64_C(1000000000000000)

RedlaneTags *
redlane_tags_new(void)
{
    RedlaneTags *tags = PyMem_Malloc(sizeof(*tags));

    if (!tags) {
        (void)PyErr_NoMemory();
        return NULL;
    }
    tags->count = 0;
    tags->known = false;
    tags->asked_ms = 0;
    return tags;
}

void
redlane_tags_free(RedlaneTags *tags)
{
    for (size_t i = 0; tags && i < tags->count; i++) {
        Py_DECREF(tags->keys[i]);
    }
    PyMem_Free(tags);
}

const RedlaneEnvelopeTag *
redlane_tags_find(const RedlaneTags *tags, const char *id, size_t size)
{
    for (size_t i = 0; tags && i < tags->count; i++) {
        if (tags->items[i].id_size == size &&
            memcmp(tags->items[i].id, id, size) == 0) {
            return &tags->items[i];
        }
    }
    return NULL;
}

int
redlane_tags_add_key(RedlaneTags *tags, const char *data, size_t size)
{
    PyObject *key;

    if (redlane_tags_find(tags, data, size)) {
        return 0;
    }
    if (tags->count == REDLANE_ENVELOPE_TAGS_MAX) {
        PyErr_Format(PyExc_ValueError,
                     "a value has %d tags at most, its namespaces counted",
                     REDLANE_ENVELOPE_TAGS_MAX);
        return -1;
    }
    key = PyBytes_FromStringAndSize(data, (Py_ssize_t)size);
    if (!key) {
        return -1;
    }
    tags->keys[tags->count] = key;
    tags->items[tags->count] =
        (RedlaneEnvelopeTag){.id = PyBytes_AS_STRING(key), .id_size = size};
    tags->there[tags->count] = false;
    tags->tickets[tags->count++] = (RedlaneNearTicket){0};
    tags->known = false;
    return 0;
}

int
redlane_tags_add_keys(RedlaneTags *tags, PyObject *keys)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keys); i++) {
        PyObject *key = PyTuple_GET_ITEM(keys, i);

        if (redlane_tags_add_key(tags, PyBytes_AS_STRING(key),
                                 (size_t)PyBytes_GET_SIZE(key)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The bytes of a tag's text; BORROWED. RAISES_NEG */
static int
text_of(PyObject *text, const char **data, Py_ssize_t *size)
{
    if (PyBytes_Check(text)) {
        *data = PyBytes_AS_STRING(text);
        *size = PyBytes_GET_SIZE(text);
    }
    else if (PyUnicode_Check(text)) {
        *data = PyUnicode_AsUTF8AndSize(text, size);
    }
    else {
        PyErr_Format(PyExc_TypeError, "a tag must be str or bytes, not %.100s",
                     Py_TYPE(text)->tp_name);
        return -1;
    }
    if (*data && *size == 0) {
        PyErr_SetString(PyExc_ValueError, "a tag must not be empty");
        return -1;
    }
    return *data ? 0 : -1;
}

int
redlane_tags_add(RedlaneTags *tags, RedlaneState *state, PyObject *head, PyObject *text)
{
    char key[REDLANE_ENVELOPE_TAG_ID_MAX], *to = key;
    Py_ssize_t head_size, size;
    const char *data, *begin = PyUnicode_AsUTF8AndSize(head, &head_size);
    size_t room = sizeof(key) - strlen(TAG_HEAD);

    if (!begin || text_of(text, &data, &size) < 0) {
        return -1;
    }
    if ((size_t)head_size + REDLANE_DIGEST_HEX + 1 > room) {
        PyErr_SetString(PyExc_ValueError, "the prefix is too long for tags");
        return -1;
    }
    memcpy(to, begin, (size_t)head_size);
    to += head_size;
    memcpy(to, TAG_HEAD, strlen(TAG_HEAD));
    to += strlen(TAG_HEAD);
    if ((size_t)size <= room - (size_t)head_size) {
        memcpy(to, data, (size_t)size);
        to += size;
    }
    else {
        *to++ = '#';
        if (redlane_digest_hex(state, data, (size_t)size, to) < 0) {
            return -1;
        }
        to += REDLANE_DIGEST_HEX;
    }
    return redlane_tags_add_key(tags, key, (size_t)(to - key));
}

int
redlane_tags_add_all(RedlaneTags *tags, RedlaneState *state, PyObject *head,
                     PyObject *given)
{
    PyObject *list;
    int result = 0;

    if (PyUnicode_Check(given) || PyBytes_Check(given)) {
        return redlane_tags_add(tags, state, head, given);
    }
    list = PySequence_List(given);
    if (!list) {
        return -1;
    }
    for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(list); i++) {
        result = redlane_tags_add(tags, state, head, PyList_GET_ITEM(list, i));
    }
    Py_DECREF(list);
    return result;
}

void
redlane_tags_command(const RedlaneTags *tags, bool make, int64_t ttl_ms,
                     RedlaneTagsCommand *command)
{
    const RedlaneScript *script = &redlane_scripts[REDLANE_SCRIPT_TAGS];
    RedlaneCommandId id = make ? REDLANE_CMD_EVALSHA : REDLANE_CMD_MGET;
    const RedlaneCommand *known = redlane_command_by_id(id);
    RedlaneArg *argv = command->argv;
    RedlaneSeed random;

    *argv++ = (RedlaneArg){known->name, strlen(known->name)};
    if (make) {
        *argv++ = (RedlaneArg){script->sha1, sizeof(script->sha1) - 1};
        *argv++ = (RedlaneArg){
            command->digits[0],
            redlane_number_format_int64(command->digits[0], (int64_t)tags->count)};
    }
    for (size_t i = 0; i < tags->count; i++) {
        *argv++ = (RedlaneArg){tags->items[i].id, tags->items[i].id_size};
    }
    if (make) {
        redlane_hash_seed(&random);
        memcpy(command->generation, REDLANE_MARK, REDLANE_MARK_SIZE);
        command->generation[REDLANE_MARK_SIZE] = REDLANE_MARK_GENERATION;
        memcpy(command->generation + REDLANE_MARK_SIZE + 1, &random.words[0],
               sizeof(random.words[0]));
        *argv++ = (RedlaneArg){command->generation, sizeof(command->generation)};
        *argv++ = (RedlaneArg){command->digits[1],
                               redlane_number_format_int64(
                                   command->digits[1], ttl_ms > TTL_MAX ? 0 : ttl_ms)};
    }
    command->vector =
        (RedlaneVector){command->argv, (size_t)(argv - command->argv), known};
}

void
redlane_tags_ticket(RedlaneTags *tags, RedlaneNear *near)
{
    for (size_t i = 0; near && i < tags->count; i++) {
        tags->tickets[i] =
            redlane_near_ticket(near, tags->items[i].id, tags->items[i].id_size);
    }
}

static bool
read_generation(PyObject *stored, uint64_t *generation)
{
    const unsigned char *data;

    if (!PyBytes_Check(stored) || PyBytes_GET_SIZE(stored) != REDLANE_GENERATION_SIZE) {
        return false;
    }
    data = (const unsigned char *)PyBytes_AS_STRING(stored);
    *generation = 0;
    for (int i = REDLANE_MARK_SIZE + 1; i < REDLANE_GENERATION_SIZE; i++) {
        *generation = *generation << 8 | data[i]; /* alike on all machines */
    }
    return memcmp(data, REDLANE_MARK, REDLANE_MARK_SIZE) == 0 &&
           data[REDLANE_MARK_SIZE] == REDLANE_MARK_GENERATION;
}

void
redlane_tags_take(RedlaneTags *tags, PyObject *reply)
{
    bool whole = PyList_Check(reply) && (size_t)PyList_GET_SIZE(reply) == tags->count;

    tags->known = whole;
    for (size_t i = 0; i < tags->count; i++) {
        tags->there[i] = whole && read_generation(PyList_GET_ITEM(reply, (Py_ssize_t)i),
                                                  &tags->items[i].generation);
        tags->known = tags->known && tags->there[i];
    }
}

int
redlane_tags_ask(RedlaneTags *tags, RedlaneTool *tool, bool make, int64_t ttl_ms,
                 const RedlaneToolManner *manner)
{
    RedlaneTagsCommand command;
    PyObject *reply;

    tags->known = false;
    redlane_tags_command(tags, make, ttl_ms, &command);
    if (redlane_tool_run(tool, &command.vector, 1, manner, &reply) < 0) {
        return -1;
    }
    redlane_tags_take(tags, reply);
    if (PyExceptionInstance_Check(reply)) {
        PyErr_SetObject((PyObject *)Py_TYPE(reply), reply);
    }
    Py_DECREF(reply);
    return PyErr_Occurred() ? -1 : 0;
}

/* The tag of a header with that id. */
static bool
find_in_header(const RedlaneEnvelope *header, const RedlaneEnvelopeTag *mine,
               RedlaneEnvelopeTag *tag)
{
    size_t at = 0;

    while (redlane_envelope_next_tag(header, &at, tag)) {
        if (tag->id_size == mine->id_size &&
            memcmp(tag->id, mine->id, tag->id_size) == 0) {
            return true;
        }
    }
    return false;
}

bool
redlane_tags_are_in(const RedlaneTags *tags, const RedlaneEnvelope *header)
{
    for (size_t i = 0; tags->known && i < tags->count; i++) {
        RedlaneEnvelopeTag tag;

        if (!find_in_header(header, &tags->items[i], &tag) ||
            tag.generation != tags->items[i].generation) {
            return false;
        }
    }
    return tags->known;
}

bool
redlane_tags_are_named_in(const RedlaneTags *tags, const RedlaneEnvelope *header)
{
    for (size_t i = 0; i < tags->count; i++) {
        RedlaneEnvelopeTag tag;

        if (!find_in_header(header, &tags->items[i], &tag)) {
            return false;
        }
    }
    return true;
}
