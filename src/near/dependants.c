/* Values that depend on other keys. Lock: their own mutex, before any shard's; no GIL.
 *
 * A store first notes its links, then looks whether its tickets hold, then puts the
 * value in, all under the lock: links without a value are dropped where room is needed.
 * A kill first moves the key's epoch, then ends what the links name: an end moves the
 * value's own epoch. So whichever comes first, no value stays that was stored by what
 * was read before the kill. */
#include <stdlib.h>
#include <string.h>

#include "near/near_internal.h"

#define FIRST_SIZE ((size_t)64)

void
redlane_near_dependants_init(RedlaneNearDependants *dependants)
{
    (void)pthread_mutex_init(&dependants->lock, NULL);
}

void
redlane_near_dependants_free(RedlaneNearDependants *dependants)
{
    (void)pthread_mutex_destroy(&dependants->lock);
    free(dependants->links);
    free(dependants->heads);
}

static uint32_t *
head_of(const RedlaneNearDependants *dependants, uint64_t key)
{
    return &dependants->heads[(key >> 32) & (dependants->size - 1)];
}

static int
compare_links(const void *left, const void *right)
{
    const RedlaneNearBond *a = left, *b = right;

    if (a->key != b->key) {
        return a->key < b->key ? -1 : 1;
    }
    return a->value == b->value ? 0 : a->value < b->value ? -1 : 1;
}

/* Chains all links anew. */
static void
chain_links(RedlaneNearDependants *dependants)
{
    memset(dependants->heads, 0, dependants->size * sizeof(*dependants->heads));
    for (size_t i = 0; i < dependants->count; i++) {
        uint32_t *head = head_of(dependants, dependants->links[i].key);

        dependants->links[i].next = *head;
        *head = (uint32_t)i + 1;
    }
    dependants->free = 0;
    atomic_store(&dependants->live, dependants->count);
}

/* Drops links that are killed, there twice, or without a value; what is left is not
 * chained. */
static void
purge_links(RedlaneNearCache *cache)
{
    RedlaneNearDependants *dependants = &cache->dependants;
    RedlaneNearBond *links = dependants->links;
    size_t count = 0;

    if (dependants->count) {
        qsort(links, dependants->count, sizeof(*links), compare_links);
    }
    for (size_t i = 0; i < dependants->count; i++) {
        bool again = count && compare_links(&links[count - 1], &links[i]) == 0;

        if (!again && !links[i].killed &&
            redlane_near_values_have_hash(cache, links[i].value)) {
            links[count++] = links[i];
        }
    }
    dependants->count = count;
}

/* Room for `more` links. False: there is none to be had, and all stays usable. */
static bool
make_room(RedlaneNearCache *cache, size_t more)
{
    RedlaneNearDependants *dependants = &cache->dependants;
    size_t size = dependants->size ? dependants->size : FIRST_SIZE;
    RedlaneNearBond *links;
    uint32_t *heads;

    if (dependants->count + more <= dependants->size) {
        return true;
    }
    purge_links(cache);
    while (size < 2 * (dependants->count + more)) {
        size *= 2;
    }
    if (size != dependants->size) {
        if (size > cache->max_bytes / REDLANE_NEAR_DEPENDANT_PLACE) {
            size = 0;
        }
        links = size ? realloc(dependants->links, size * sizeof(*links)) : NULL;
        if (links) {
            dependants->links = links;
        }
        heads = links ? realloc(dependants->heads, size * sizeof(*heads)) : NULL;
        if (heads) {
            dependants->heads = heads;
            dependants->size = size;
        }
    }
    if (dependants->size) {
        chain_links(dependants);
    }
    return dependants->count + more <= dependants->size;
}

static void
add_link(RedlaneNearDependants *dependants, uint64_t key, uint64_t value)
{
    uint32_t *head = head_of(dependants, key), at = dependants->free;

    if (at) {
        dependants->free = dependants->links[at - 1].next;
    }
    else {
        at = (uint32_t)++dependants->count;
    }
    dependants->links[at - 1] = (RedlaneNearBond){key, value, *head, false};
    *head = at;
    (void)atomic_fetch_add(&dependants->live, 1);
}

static bool
note_links_locked(RedlaneNearCache *cache, uint64_t value,
                  const RedlaneNearTicket *keys, size_t count)
{
    if (!make_room(cache, count)) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        add_link(&cache->dependants, keys[i].hash, value);
    }
    return true;
}

static bool
tickets_hold(RedlaneNear *near, const RedlaneNearTicket *keys, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!redlane_near_ticket_holds(near, &keys[i])) {
            return false;
        }
    }
    return true;
}

RedlaneNearEntry *
redlane_near_store_dependent(RedlaneNear *near, const char *key, size_t size,
                             const RedlaneNearTicket *ticket,
                             const RedlaneNearOffer *offer,
                             const RedlaneNearTicket *keys, size_t count)
{
    RedlaneNearCache *cache = redlane_near_cache(near);
    RedlaneNearEntry *entry = NULL;
    RedlaneNearOffer whole = *offer;

    if (!ticket->generation) {
        return NULL;
    }
    whole.cost += count * REDLANE_NEAR_DEPENDANT_COST;
    (void)pthread_mutex_lock(&cache->dependants.lock);
    if (note_links_locked(cache, ticket->hash, keys, count) &&
        tickets_hold(near, keys, count)) {
        entry = redlane_near_store(near, key, size, ticket, &whole);
    }
    (void)pthread_mutex_unlock(&cache->dependants.lock);
    return entry;
}

void
redlane_near_dependants_kill(RedlaneNearCache *cache, uint64_t hash)
{
    RedlaneNearDependants *dependants = &cache->dependants;
    uint32_t *from;

    if (atomic_load(&dependants->live) == 0) {
        return;
    }
    (void)pthread_mutex_lock(&dependants->lock);
    from = dependants->size ? head_of(dependants, hash) : NULL;
    while (from && *from) {
        uint32_t at = *from;
        RedlaneNearBond *link = &dependants->links[at - 1];

        if (link->key != hash) {
            from = &link->next;
            continue;
        }
        *from = link->next;
        redlane_near_values_kill_hash(cache, link->value);
        *link = (RedlaneNearBond){0, 0, dependants->free, true};
        dependants->free = at;
        (void)atomic_fetch_sub(&dependants->live, 1);
    }
    (void)pthread_mutex_unlock(&dependants->lock);
}
