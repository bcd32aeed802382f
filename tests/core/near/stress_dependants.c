/* Threads that store values which depend on tags, end the tags, and read: nobody finds
 * a value that is older than the last end of its tag. A value is a number: its tag's
 * version when it was read. No server, no thread of the near cache's own.
 *
 * usage: stress_dependants SECONDS; prints "N found" and exits 0 where all was well. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "near/near_internal.h"

#define TAGS 4
#define KEYS 32 /* of each tag */
#define STORERS 2
#define READERS 2

static RedlaneNear *near;
static atomic_uint_fast64_t versions[TAGS], ended[TAGS], found;
static atomic_bool over, failed;

static uint64_t
draw(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407u;
    return *state >> 33;
}

static size_t
name_key(char *key, uint64_t number)
{
    return (size_t)snprintf(key, 32, "k%" PRIu64, number);
}

static size_t
name_tag(char *key, uint64_t number)
{
    return (size_t)snprintf(key, 32, "kt%" PRIu64, number);
}

static void *
store_values(void *argument)
{
    uint64_t state = (uintptr_t)argument;

    while (!atomic_load(&over)) {
        uint64_t number = draw(&state) % (TAGS * KEYS);
        char key[32], tag[32];
        size_t size = name_key(key, number), tag_size = name_tag(tag, number % TAGS);
        RedlaneNearTicket ticket = redlane_near_ticket(near, key, size);
        RedlaneNearTicket tags = redlane_near_ticket(near, tag, tag_size);
        uintptr_t version = (uintptr_t)atomic_load(&versions[number % TAGS]);
        const RedlaneNearOffer offer = {
            .value = (void *)version, .cost = 8, .pttl_ms = 3600000};
        RedlaneNearEntry *entry =
            redlane_near_store_dependent(near, key, size, &ticket, &offer, &tags, 1);

        if (entry) {
            (void)redlane_near_entry_release(entry);
        }
        while (redlane_near_take_dead(near)) {
        }
    }
    return NULL;
}

static void *
end_tags(void *argument)
{
    uint64_t state = (uintptr_t)argument;

    while (!atomic_load(&over)) {
        uint64_t number = draw(&state) % TAGS;
        uint64_t version = atomic_fetch_add(&versions[number], 1) + 1;
        char tag[32];
        size_t size = name_tag(tag, number);

        redlane_near_kill(near, tag, size);
        atomic_store(&ended[number], version);
    }
    return NULL;
}

static void *
read_values(void *argument)
{
    uint64_t state = (uintptr_t)argument;

    while (!atomic_load(&over)) {
        uint64_t number = draw(&state) % (TAGS * KEYS);
        uint64_t least = atomic_load(&ended[number % TAGS]);
        char key[32];
        size_t size = name_key(key, number);
        RedlaneNearEntry *entry = redlane_near_find(near, key, size);

        if (entry) {
            if ((uintptr_t)entry->value < least) {
                atomic_store(&failed, true);
            }
            (void)atomic_fetch_add(&found, 1);
            (void)redlane_near_entry_release(entry);
        }
    }
    return NULL;
}

int
main(int argc, char **argv)
{
    RedlaneSettings draft = {.scheme = REDLANE_SCHEME_TCP};
    RedlaneSettings *settings = redlane_settings_new(&draft);
    RedlaneNearPrefixes *all = redlane_near_prefixes_with(NULL, "k", 1);
    struct timespec length = {.tv_sec = argc > 1 ? atoi(argv[1]) : 1};
    pthread_t threads[STORERS + READERS + 1];
    size_t count = 0;

    near = redlane_near_new(settings, 1 << 20, REDLANE_NS_PER_S);
    redlane_settings_release(settings);
    redlane_near_confirm(redlane_near_cache(near), all, "run", true, REDLANE_NEVER);
    for (int i = 0; i < TAGS; i++) {
        atomic_store(&versions[i], 1);
    }
    for (; count < STORERS + READERS + 1; count++) {
        void *(*work)(void *) = count < STORERS             ? store_values
                                : count < STORERS + READERS ? read_values
                                                            : end_tags;

        if (pthread_create(&threads[count], NULL, work,
                           (void *)(uintptr_t)(count + 1)) != 0) {
            return 2;
        }
    }
    (void)nanosleep(&length, NULL);
    atomic_store(&over, true);
    while (count) {
        (void)pthread_join(threads[--count], NULL);
    }
    redlane_near_close(near);
    while (redlane_near_take_dead(near)) {
    }
    redlane_near_release(near);
    redlane_near_prefixes_release(all);
    printf("%" PRIu64 " found\n", atomic_load(&found));
    return atomic_load(&failed) ? 1 : 0;
}
