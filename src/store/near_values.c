/* Values of a near cache: their objects, and what ends them. GIL held. */
#include "store/near_values.h"

#include <string.h>

#include "core/command_keys.h"
#include "core/script.h"

/* A command that is not known, with more arguments than this, may change anything. */
#define ARGUMENTS_MAX 1024
/* A form is a number below it, and how deep a namespace is: 8 at most. */
#define FORM_DEPTH ((RedlaneNearForm)1 << 28)

RedlaneNearForm
redlane_near_form_new(void)
{
    static atomic_uint_least32_t next = REDLANE_NEAR_FORM_OWN;
    uint_least32_t form = atomic_load_explicit(&next, memory_order_relaxed);

    while (form < FORM_DEPTH && !atomic_compare_exchange_weak(&next, &form, form + 1)) {
    }
    return form < FORM_DEPTH ? form : REDLANE_NEAR_FORM_STORED;
}

RedlaneNearForm
redlane_near_form_within(RedlaneNearForm parent)
{
    return parent == REDLANE_NEAR_FORM_STORED ? parent : parent + FORM_DEPTH;
}

void
redlane_near_free_dead(RedlaneNear *near, size_t limit)
{
    PyObject *type, *error, *traceback;
    void *value = limit ? redlane_near_take_dead(near) : NULL;

    if (!value) {
        return;
    }
    PyErr_Fetch(&type, &error, &traceback);
    (void)redlane_near_hold(near); /* what runs may drop the last reference */
    while (value) {
        redlane_near_value_free(value);
        value = --limit ? redlane_near_take_dead(near) : NULL;
    }
    redlane_near_release(near);
    PyErr_Restore(type, error, traceback);
}

void
redlane_near_shut(RedlaneNear *near)
{
    redlane_near_close(near);
    redlane_near_free_dead(near, SIZE_MAX);
}

/* Making a generation that is not there, or letting it live longer, ends no value. */
static bool
is_harmless(const RedlaneVector *vector)
{
    const RedlaneScript *tags = &redlane_scripts[REDLANE_SCRIPT_TAGS];

    return vector->command->flags & REDLANE_COMMAND_READ ||
           (vector->command->id == REDLANE_CMD_EVALSHA &&
            vector->argv[1].data == tags->sha1);
}

bool
redlane_near_is_write(const RedlaneRequest *request, const RedlaneVector *vectors,
                      size_t count)
{
    for (size_t i = 0; !request->cache_read && i < count; i++) {
        if (!is_harmless(&vectors[i])) {
            return true;
        }
    }
    return false;
}

/* True for a command that names no key and may change all. Servers send no messages
 * for SWAPDB. */
static bool
changes_all(const RedlaneVector *vector)
{
    switch (vector->command->id) {
    case REDLANE_CMD_FLUSHDB:
    case REDLANE_CMD_FLUSHALL:
        return true;
    case REDLANE_CMD_NONE:
        return vector->argc > ARGUMENTS_MAX ||
               strcmp(vector->command->name, "SWAPDB") == 0;
    default:
        return false;
    }
}

static void
note_command(RedlaneNear *near, const RedlaneVector *vector)
{
    RedlaneKeySpan keys = redlane_command_keys(vector);
    RedlaneCommandId id = vector->command->id;

    if (changes_all(vector)) {
        redlane_near_kill_all(near);
        return;
    }
    if (id == REDLANE_CMD_NONE) { /* any argument may be a key that it changes */
        keys = (RedlaneKeySpan){1, vector->argc, 1};
    }
    for (size_t i = keys.first; i < keys.end; i += keys.step) {
        redlane_near_kill(near, vector->argv[i].data, vector->argv[i].size);
    }
}

typedef struct {
    const RedlaneVector *vectors;
    size_t count;
} Commands;

static void
note_commands(RedlaneNear *near, const void *context)
{
    const Commands *commands = context;

    for (size_t i = 0; i < commands->count; i++) {
        if (!is_harmless(&commands->vectors[i])) {
            note_command(near, &commands->vectors[i]);
        }
    }
}

void
redlane_near_note_write(const RedlaneSettings *settings, const RedlaneVector *vectors,
                        size_t count)
{
    const Commands commands = {vectors, count};

    redlane_near_each(settings, note_commands, &commands);
}

static void
note_prefix(RedlaneNear *near, const void *context)
{
    const RedlaneArg *prefix = context;

    redlane_near_kill_prefix(near, prefix->data, prefix->size);
}

void
redlane_near_note_pattern(const RedlaneSettings *settings, RedlaneArg pattern)
{
    RedlaneArg literal = {pattern.data, 0};

    /* NUL is found too: that ends it early, which is no harm. */
    while (literal.size < pattern.size &&
           !strchr("*?[\\", pattern.data[literal.size])) {
        literal.size++;
    }
    redlane_near_each(settings, note_prefix, &literal);
}
