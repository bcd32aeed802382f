/* The near cache when memory is exhausted: each allocation in turn is refused, alone
 * and with all that follow. What could not be kept is said, and stays its owner's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "near/near_internal.h"

static size_t refusals;
static long until_refusal = -1; /* allocations that still succeed; -1: all */
static bool once;

static bool
is_refused(void)
{
    if (until_refusal < 0) {
        return false;
    }
    if (until_refusal > 0) {
        until_refusal--;
        return false;
    }
    refusals++;
    until_refusal = once ? -1 : 0;
    return true;
}

/* The linker's --wrap puts these in the place of the three, and names those so. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *block, size_t size);

void *
__wrap_malloc(size_t size)
{
    return is_refused() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
    return is_refused() ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *block, size_t size)
{
    return is_refused() ? NULL : __real_realloc(block, size);
}

static void
require(bool ok, const char *what)
{
    if (!ok) {
        printf("broken promise: %s\n", what);
        exit(1);
    }
}

/* Prefixes one after the other; the set of those that could be added. */
static RedlaneNearPrefixes *
add_prefixes(void)
{
    static const char *const prefixes[] = {"key:1", "other:", "key:", "a", "z:"};
    RedlaneNearPrefixes *set = NULL;

    for (size_t i = 0; i < sizeof(prefixes) / sizeof(*prefixes); i++) {
        size_t size = strlen(prefixes[i]);
        RedlaneNearPrefixes *made = redlane_near_prefixes_with(set, prefixes[i], size);

        if (made) {
            redlane_near_prefixes_release(set);
            set = made;
            require(redlane_near_prefixes_cover(set, prefixes[i], size), "it is added");
        }
    }
    return set;
}

static void
store_much(RedlaneNear *near, int *values)
{
    char key[16];

    for (int i = 0; i < 60; i++) {
        size_t size = (size_t)snprintf(key, sizeof(key), "key:%d", i % 40);
        RedlaneNearTicket ticket = redlane_near_ticket(near, key, size);
        const RedlaneNearOffer offer = {
            .value = &values[i], .cost = 8, .pttl_ms = 60000, .near_ttl_ms = 60000};
        RedlaneNearEntry *entry = redlane_near_store(near, key, size, &ticket, &offer);
        RedlaneNearEntry *found = redlane_near_find(near, key, size);

        if (entry) {
            require(found == entry && found->value == &values[i], "it is stored");
            require(!redlane_near_entry_release(found), "two have it still");
            values[i]++;
            if (redlane_near_entry_release(entry)) {
                values[i]--;
            }
        }
        else if (found && redlane_near_entry_release(found)) {
            require(false, "the table has a reference");
        }
        if (i % 7 == 0) {
            redlane_near_kill(near, key, size);
        }
    }
    redlane_near_kill_prefix(near, "key:3", 5);
}

static void
use(RedlaneSettings *settings)
{
    RedlaneNear *near = redlane_near_new(settings, 100000, REDLANE_NS_PER_S);
    RedlaneNearPrefixes *set = add_prefixes();
    int values[60] = {0};
    int *dead;

    if (near) {
        redlane_near_confirm(redlane_near_cache(near), set, "run", true, REDLANE_NEVER);
        store_much(near, values);
        redlane_near_close(near);
        while ((dead = redlane_near_take_dead(near))) {
            --*dead;
        }
        for (int i = 0; i < 60; i++) {
            require(values[i] == 0, "each value that was taken is given back once");
        }
        redlane_near_release(near);
    }
    redlane_near_prefixes_release(set);
}

int
main(void)
{
    RedlaneSettings draft = {.scheme = REDLANE_SCHEME_TCP};
    RedlaneSettings *settings = redlane_settings_new(&draft);

    require(settings != NULL, "settings");
    use(settings);
    for (int alone = 0; alone < 2; alone++) {
        size_t before;
        long after = 0;

        do {
            before = refusals;
            until_refusal = after++;
            once = alone;
            use(settings);
            until_refusal = -1;
        } while (refusals > before);
    }
    redlane_settings_release(settings);
    printf("%zu allocations refused\n", refusals);
    return 0;
}
