#include <stdlib.h>
#include <string.h>

#include "near_tests.h"

static RedlaneNearPrefixes *
with(RedlaneNearPrefixes *set, const char *prefix)
{
    RedlaneNearPrefixes *made = redlane_near_prefixes_with(set, prefix, strlen(prefix));

    redlane_near_prefixes_release(set);
    return made;
}

static bool
covers(const RedlaneNearPrefixes *set, const char *key)
{
    return redlane_near_prefixes_cover(set, key, strlen(key));
}

/* Random prefixes over two letters, against a list that is looked through. */
static void
test_against_a_list(void)
{
    srand(7);
    for (int round = 0; round < 300; round++) {
        char added[12][6];
        RedlaneNearPrefixes *set = NULL;

        for (int i = 0; i < 12; i++) {
            size_t size = (size_t)rand() % 4 + (rand() % 30 != 0);

            for (size_t j = 0; j < size; j++) {
                added[i][j] = (char)(rand() % 2 ? 'a' : '\xff');
            }
            added[i][size] = '\0';
            set = with(set, added[i]);
            for (int probe = 0; probe < 20; probe++) {
                char key[8] = "";
                bool wanted = false;

                for (int j = 0; j < rand() % 7; j++) {
                    key[j] = (char)(rand() % 2 ? 'a' : '\xff');
                }
                for (int j = 0; j <= i; j++) {
                    wanted |= strncmp(key, added[j], strlen(added[j])) == 0;
                }
                CHECK_INTEGER(covers(set, key), wanted);
            }
        }
        for (size_t i = 0; i < set->count; i++) {
            for (size_t j = 0; j < set->count; j++) {
                CHECK(i == j || set->items[i].size > set->items[j].size ||
                      memcmp(set->items[i].data, set->items[j].data,
                             set->items[i].size) != 0);
            }
        }
        redlane_near_prefixes_release(set);
    }
}

void
test_prefixes(void)
{
    RedlaneNearPrefixes *set = with(NULL, "b:"), *same;

    CHECK(!covers(NULL, "") && !covers(NULL, "b:"));
    CHECK(covers(set, "b:") && covers(set, "b:1"));
    CHECK(!covers(set, "b") && !covers(set, "") && !covers(set, "c:"));
    set = with(set, "a:x:");
    set = with(set, "a:y:");
    set = with(set, "c:");
    CHECK_INTEGER(set->count, 4);
    same = redlane_near_prefixes_with(set, "a:x:deep:", 9);
    CHECK(same == set);
    redlane_near_prefixes_release(same);
    set = with(set, "a:");
    CHECK_INTEGER(set->count, 3);
    CHECK(covers(set, "a:z") && covers(set, "b:") && covers(set, "c:1"));
    set = with(set, "");
    CHECK_INTEGER(set->count, 1);
    CHECK(covers(set, "") && covers(set, "anything"));
    redlane_near_prefixes_release(set);
    redlane_near_prefixes_release(NULL);
    CHECK(redlane_near_prefixes_hold(NULL) == NULL);
    test_against_a_list();
}
