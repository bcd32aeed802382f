#include "near/prefixes.h"

#include <stdlib.h>
#include <string.h>

static bool
begins_with(const char *key, size_t size, RedlaneArg prefix)
{
    return prefix.size <= size &&
           (!prefix.size || memcmp(key, prefix.data, prefix.size) == 0);
}

/* As memcmp, the shorter one first where it begins the longer one. */
static int
compare(RedlaneArg left, const char *key, size_t size)
{
    size_t common = left.size < size ? left.size : size;
    int order = common ? memcmp(left.data, key, common) : 0;

    return order ? order : (left.size > size) - (left.size < size);
}

bool
redlane_near_prefixes_cover(const RedlaneNearPrefixes *set, const char *key,
                            size_t size)
{
    size_t low = 0, high = set ? set->count : 0;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare(set->items[middle], key, size) <= 0) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return low > 0 && begins_with(key, size, set->items[low - 1]);
}

/* Puts a copy behind what is there; `*bytes` moves past it. */
static void
append(RedlaneNearPrefixes *set, char **bytes, const char *prefix, size_t size)
{
    if (size) {
        memcpy(*bytes, prefix, size);
    }
    set->items[set->count++] = (RedlaneArg){*bytes, size};
    *bytes += size;
}

RedlaneNearPrefixes *
redlane_near_prefixes_with(RedlaneNearPrefixes *set, const char *prefix, size_t size)
{
    RedlaneArg added = {prefix, size};
    size_t count = set ? set->count : 0, total = size;
    bool placed = false;
    RedlaneNearPrefixes *made;
    char *bytes;

    if (redlane_near_prefixes_cover(set, prefix, size)) {
        return redlane_near_prefixes_hold(set);
    }
    for (size_t i = 0; i < count; i++) {
        total += set->items[i].size;
    }
    made = malloc(sizeof(*made) + (count + 1) * sizeof(RedlaneArg) + total);
    if (!made) {
        return NULL;
    }
    atomic_init(&made->references, 1);
    made->count = 0;
    bytes = (char *)(made->items + count + 1);
    for (size_t i = 0; i < count; i++) {
        const RedlaneArg *item = &set->items[i];

        if (begins_with(item->data, item->size, added)) {
            continue; /* nested in the new one */
        }
        if (!placed && compare(*item, prefix, size) > 0) {
            append(made, &bytes, prefix, size);
            placed = true;
        }
        append(made, &bytes, item->data, item->size);
    }
    if (!placed) {
        append(made, &bytes, prefix, size);
    }
    return made;
}

RedlaneNearPrefixes *
redlane_near_prefixes_hold(RedlaneNearPrefixes *set)
{
    if (set) {
        (void)atomic_fetch_add_explicit(&set->references, 1, memory_order_relaxed);
    }
    return set;
}

void
redlane_near_prefixes_release(RedlaneNearPrefixes *set)
{
    if (set &&
        atomic_fetch_sub_explicit(&set->references, 1, memory_order_acq_rel) == 1) {
        free(set);
    }
}
