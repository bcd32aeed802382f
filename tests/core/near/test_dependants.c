/* Values that end when other keys change: confirmed by hand, no thread. Values are
 * literals: nobody frees them. */
#include <stdio.h>
#include <string.h>

#include "near_tests.h"

#define HOUR (3600 * REDLANE_NS_PER_S)
#define HOUR_MS 3600000

static RedlaneNear *near;
static RedlaneNearPrefixes *all;

static void
begin(size_t max_bytes)
{
    RedlaneSettings draft = {.scheme = REDLANE_SCHEME_TCP};
    RedlaneSettings *settings = redlane_settings_new(&draft);

    near = redlane_near_new(settings, max_bytes, REDLANE_NS_PER_S);
    redlane_settings_release(settings);
    all = redlane_near_prefixes_with(NULL, "k", 1);
    redlane_near_confirm(redlane_near_cache(near), all, "run", true,
                         redlane_clock_now() + HOUR);
}

static void
free_dead(void)
{
    while (redlane_near_take_dead(near)) {
    }
}

static void
end(void)
{
    redlane_near_close(near);
    free_dead();
    CHECK_INTEGER(atomic_load(&redlane_near_cache(near)->bytes), 0);
    redlane_near_release(near);
    redlane_near_prefixes_release(all);
}

static RedlaneNearTicket
ticket_for(const char *key)
{
    return redlane_near_ticket(near, key, strlen(key));
}

static bool
store_by(const char *key, const RedlaneNearTicket *ticket,
         const RedlaneNearTicket *tags, size_t count)
{
    static char text[] = "value";
    const RedlaneNearOffer offer = {.value = text, .cost = 5, .pttl_ms = HOUR_MS};
    RedlaneNearEntry *entry = redlane_near_store_dependent(near, key, strlen(key),
                                                           ticket, &offer, tags, count);

    if (entry) {
        (void)redlane_near_entry_release(entry);
    }
    return entry != NULL;
}

static bool
put(const char *key, const char *first, const char *second)
{
    RedlaneNearTicket tags[] = {ticket_for(first), ticket_for(second)};
    RedlaneNearTicket ticket = ticket_for(key);

    return store_by(key, &ticket, tags, 2);
}

static void
kill(const char *key)
{
    redlane_near_kill(near, key, strlen(key));
}

static bool
is_there(const char *key)
{
    RedlaneNearEntry *entry = redlane_near_find(near, key, strlen(key));

    if (entry) {
        (void)redlane_near_entry_release(entry);
    }
    return entry != NULL;
}

static size_t
links(void)
{
    return atomic_load(&redlane_near_cache(near)->dependants.live);
}

static void
test_kill(void)
{
    begin(1 << 20);
    CHECK(put("k1", "ka", "kb"));
    CHECK(put("k2", "ka", "kc"));
    CHECK(put("k3", "kb", "kb"));
    CHECK(is_there("k1") && is_there("k2") && is_there("k3"));
    kill("kother");
    CHECK(is_there("k1") && is_there("k2") && is_there("k3"));
    kill("ka");
    CHECK(!is_there("k1") && !is_there("k2") && is_there("k3"));
    CHECK(put("k1", "ka", "kb"));
    kill("kb");
    CHECK(!is_there("k1") && !is_there("k3"));
    kill("kb");
    kill("kc");
    CHECK(put("k1", "ka", "kb"));
    kill("k1");
    CHECK(!is_there("k1"));
    end();
}

/* Whatever comes between the ticket of a tag and the store. */
static void
test_overtaken(void)
{
    RedlaneNearTicket ticket, tag;

    begin(1 << 20);
    tag = ticket_for("ka");
    ticket = ticket_for("k1");
    kill("ka");
    CHECK(!store_by("k1", &ticket, &tag, 1));
    tag = ticket_for("ka");
    CHECK(store_by("k1", &ticket, &tag, 1));
    kill("ka");
    CHECK(!is_there("k1"));
    /* the end of a value overtakes reads of it that are under way */
    ticket = ticket_for("k1");
    CHECK(put("k1", "ka", "kb"));
    tag = ticket_for("kc");
    kill("ka");
    CHECK(!store_by("k1", &ticket, &tag, 1));
    tag = ticket_for("ka");
    ticket = ticket_for("k1");
    redlane_near_kill_all(near);
    CHECK(!store_by("k1", &ticket, &tag, 1));
    tag = ticket_for("ka");
    ticket = ticket_for("k1");
    redlane_near_kill_prefix(near, "ka", 2);
    CHECK(!store_by("k1", &ticket, &tag, 1));
    end();
}

static void
test_many(void)
{
    char key[32], tag[32];
    bool kept = true;

    begin(8 << 20);
    for (int turn = 0; turn < 5; turn++) {
        for (int i = 0; i < 5000; i++) {
            (void)snprintf(key, sizeof(key), "k%d", i);
            (void)snprintf(tag, sizeof(tag), "ktag%d", i % 100);
            kept &= put(key, tag, "kall");
        }
    }
    CHECK(kept);
    CHECK(links() < 4 * 10000); /* what was replaced does not pile up */
    kill("ktag7");
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        kept &= is_there(key) == (i % 100 != 7);
    }
    CHECK(kept);
    kill("kall");
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        kept &= !is_there(key);
    }
    CHECK(kept);
    free_dead();
    end();
}

/* Links are bounded as the values are. */
static void
test_bound(void)
{
    char key[32];
    size_t size;

    begin(64 << 10);
    for (int i = 0; i < 20000; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        (void)put(key, "ka", key);
        free_dead();
    }
    size = redlane_near_cache(near)->dependants.size;
    CHECK(size > 0 && size * REDLANE_NEAR_DEPENDANT_PLACE <= 64 << 10);
    kill("ka");
    CHECK(put("k1", "ka", "kb"));
    CHECK(is_there("k1"));
    end();
}

/* Values that hardly are anything but links: there is room for the links of as many as
 * there is room for, so that none has to be looked for over and over. */
static void
test_many_links(void)
{
    RedlaneNearTicket tags[64], ticket;
    char key[32];
    bool kept = true;

    begin(1 << 20);
    for (int i = 0; i < 64; i++) {
        (void)snprintf(key, sizeof(key), "ktag%d", i);
        tags[i] = ticket_for(key);
    }
    for (int i = 0; i < 4000; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        ticket = ticket_for(key);
        kept &= store_by(key, &ticket, tags, 64);
        free_dead();
    }
    CHECK(kept);
    CHECK(links() > 10000);
    kill("ktag63");
    CHECK(!is_there("k3999"));
    end();
}

void
test_dependants(void)
{
    test_kill();
    test_overtaken();
    test_many();
    test_bound();
    test_many_links();
}
