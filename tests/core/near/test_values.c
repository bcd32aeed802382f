/* Values as they are stored, found, killed, evicted: confirmed by hand, no thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "near_tests.h"

#define HOUR (3600 * REDLANE_NS_PER_S)
#define HOUR_MS 3600000

static RedlaneNear *near;
static RedlaneNearPrefixes *all;
static size_t values; /* allocated and not freed */

static RedlaneNearCache *
cache(void)
{
    return redlane_near_cache(near);
}

static void
begin(size_t max_bytes)
{
    RedlaneSettings draft = {.scheme = REDLANE_SCHEME_TCP};
    RedlaneSettings *settings = redlane_settings_new(&draft);

    near = redlane_near_new(settings, max_bytes, REDLANE_NS_PER_S);
    redlane_settings_release(settings);
    all = redlane_near_prefixes_with(NULL, "k", 1);
}

static void
confirm(void)
{
    redlane_near_confirm(cache(), all, "run", true, redlane_clock_now() + HOUR);
}

static void
unconfirm(void)
{
    redlane_near_unconfirm(cache(), REDLANE_NEAR_CONNECTING, "lost");
}

static void *
new_value(const char *text)
{
    values++;
    return strdup(text);
}

static void
free_value(void *value)
{
    values -= value != NULL;
    free(value);
}

static void
free_dead(void)
{
    void *value;

    while ((value = redlane_near_take_dead(near))) {
        free_value(value);
    }
}

static void
end(void)
{
    redlane_near_close(near);
    free_dead();
    CHECK_INTEGER(atomic_load(&cache()->bytes), 0);
    redlane_near_release(near);
    redlane_near_prefixes_release(all);
    CHECK_INTEGER(values, 0);
}

static RedlaneNearTicket
ticket_for(const char *key)
{
    return redlane_near_ticket(near, key, strlen(key));
}

static RedlaneNearEntry *
store_by(const RedlaneNearTicket *ticket, const char *key, const char *text,
         int64_t pttl)
{
    void *value = new_value(text);
    const RedlaneNearOffer offer = {
        .value = value, .cost = strlen(text), .pttl_ms = pttl, .near_ttl_ms = 1000};
    RedlaneNearEntry *entry =
        redlane_near_store(near, key, strlen(key), ticket, &offer);

    if (!entry) {
        free_value(value);
    }
    return entry;
}

static bool
put(const char *key, const char *text)
{
    RedlaneNearTicket ticket = ticket_for(key);
    RedlaneNearEntry *entry = store_by(&ticket, key, text, HOUR_MS);

    if (entry) {
        free_value(redlane_near_entry_release(entry));
    }
    return entry != NULL;
}

/* True when a look-up gives `text`, or nothing for NULL. */
static bool
gives(RedlaneNearEntry *entry, const char *text)
{
    bool same = entry && text ? strcmp(entry->value, text) == 0 : !entry && !text;

    if (entry) {
        free_value(redlane_near_entry_release(entry));
    }
    return same;
}

static bool
finds(const char *key, const char *text)
{
    return gives(redlane_near_find(near, key, strlen(key)), text);
}

static bool
finds_stale(const char *key, const char *text)
{
    return gives(redlane_near_find_stale(near, key, strlen(key)), text);
}

static void
test_tickets(void)
{
    RedlaneNearTicket ticket, other;
    RedlaneNearEntry *entry;

    begin(1 << 20);
    CHECK_INTEGER(ticket_for("k1").generation, 0);
    CHECK(!put("k1", "v"));
    confirm();
    CHECK_INTEGER(ticket_for("x1").generation, 0); /* not its prefix */
    CHECK(put("k1", "v") && finds("k1", "v") && finds("k2", NULL));

    /* a kill overtakes it, and nobody else's */
    ticket = ticket_for("k1");
    other = ticket_for("k2");
    CHECK(redlane_near_ticket_holds(near, &ticket));
    redlane_near_kill(near, "k1", 2);
    CHECK(finds("k1", NULL) && finds_stale("k1", NULL));
    CHECK(!redlane_near_ticket_holds(near, &ticket));
    CHECK(redlane_near_ticket_holds(near, &other));
    CHECK(!store_by(&ticket, "k1", "v", HOUR_MS));
    CHECK(redlane_near_wait_nogil(near, &ticket, REDLANE_NEVER));
    CHECK(!redlane_near_wait_nogil(near, &other, redlane_clock_now()));

    /* so do a flush, a lost link, a new one, an own clear, a prefix */
    for (int i = 0; i < 5; i++) {
        ticket = ticket_for("k1");
        CHECK(ticket.generation != 0);
        switch (i) {
        case 0:
            redlane_near_values_flush(cache(), true);
            break;
        case 1:
            unconfirm();
            CHECK(!put("k1", "v"));
            confirm();
            break;
        case 2:
            redlane_near_kill_all(near);
            break;
        case 3:
            redlane_near_kill_prefix(near, "k1", 2);
            break;
        default:
            redlane_near_kill_prefix(near, "", 0);
        }
        CHECK(!store_by(&ticket, "k1", "v", HOUR_MS));
        CHECK(put("k1", "v") && finds("k1", "v"));
    }

    /* a link that follows one that stands takes nothing away */
    ticket = ticket_for("k2");
    confirm();
    CHECK(finds("k1", "v"));
    entry = store_by(&ticket, "k2", "v", HOUR_MS);
    CHECK(entry != NULL);
    /* but one to another server does */
    redlane_near_confirm(cache(), all, "other", true, redlane_clock_now() + HOUR);
    CHECK(!redlane_near_is_hit(near, entry, redlane_clock_coarse()));
    CHECK(finds("k1", NULL) && finds("k2", NULL) && finds_stale("k1", "v"));
    free_value(redlane_near_entry_release(entry));
    end();
}

static void
test_deadlines(void)
{
    RedlaneNearTicket ticket;
    RedlaneNearEntry *entry;

    begin(1 << 20);
    confirm();
    ticket = ticket_for("k1");
    CHECK(!store_by(&ticket, "k1", "v", -2) && !store_by(&ticket, "k1", "v", 0));
    entry = store_by(&ticket, "k1", "v", -1);
    CHECK_INTEGER(entry->deadline - ticket.sent_at,
                  REDLANE_NS_PER_S - REDLANE_COARSE_TICK);
    free_value(redlane_near_entry_release(entry));
    entry = store_by(&ticket, "k1", "v", INT64_MAX);
    CHECK_INTEGER(entry->deadline, REDLANE_NEVER);
    free_value(redlane_near_entry_release(entry));
    entry = store_by(&ticket, "k1", "v", 1); /* less than a tick: over at once */
    CHECK(entry != NULL && finds("k1", NULL) && finds_stale("k1", NULL));
    free_value(redlane_near_entry_release(entry));
    CHECK_INTEGER(atomic_load(&cache()->dead_count), 2);
    redlane_near_values_sweep(cache());
    CHECK_INTEGER(atomic_load(&cache()->dead_count), 3);

    /* the word of the link ends */
    CHECK(put("k1", "v") && finds("k1", "v") && redlane_near_is_confirmed(near));
    redlane_near_extend(cache(), redlane_clock_coarse());
    CHECK(finds("k1", NULL) && !redlane_near_is_confirmed(near));
    redlane_near_extend(cache(), redlane_clock_now() + HOUR);
    CHECK(finds("k1", "v"));

    /* a lost one: stale, until it is killed or all of it is */
    CHECK(put("k2", "w"));
    unconfirm();
    redlane_near_extend(cache(), redlane_clock_now() + HOUR); /* too late */
    CHECK(finds("k1", NULL) && finds_stale("k1", "v"));
    confirm();
    CHECK(finds("k1", NULL) && finds_stale("k1", "v"));
    redlane_near_kill(near, "k1", 2);
    CHECK(finds_stale("k1", NULL) && finds_stale("k2", "w"));
    redlane_near_kill_all(near);
    CHECK(finds_stale("k2", NULL));
    redlane_near_values_sweep(cache());
    CHECK_INTEGER(cache()->shards[0].table.count, 0);
    end();
}

/* Whoever holds an entry has its value, dead or alive. */
static void
test_references(void)
{
    RedlaneNearTicket ticket;
    RedlaneNearEntry *first, *second;
    void *value;

    begin(1 << 20);
    confirm();
    ticket = ticket_for("k1");
    first = store_by(&ticket, "k1", "first", HOUR_MS);
    second = store_by(&ticket, "k1", "second", HOUR_MS); /* replaces it */
    CHECK(!redlane_near_is_hit(near, first, 0) && finds("k1", "second"));
    CHECK(redlane_near_is_hit(near, second, redlane_clock_coarse()));
    value = redlane_near_entry_release(first);
    CHECK(value && strcmp(value, "first") == 0);
    free_value(value);
    CHECK(redlane_near_entry_hold(second) == second);
    redlane_near_entry_visit(second);
    redlane_near_entry_visit(second); /* the mark is no reference */
    CHECK(redlane_near_entry_release(second) == NULL);
    redlane_near_close(near);
    CHECK(!redlane_near_is_hit(near, second, 0));
    CHECK(redlane_near_take_dead(near) == NULL);
    CHECK(!put("k1", "v") && !redlane_near_watch(near, "k", 1));
    free_value(redlane_near_entry_release(second));
    end();
}

/* What an entry takes beside its key and value, however full the slots are: an object
 * of Python adds up to 48 to it. */
static void
test_overhead(void)
{
    size_t data = 0, most = 0;
    RedlaneNearStats stats;
    char key[32];

    begin(16 << 20);
    confirm();
    for (int i = 1; i <= 30000; i++) {
        data += (size_t)snprintf(key, sizeof(key), "key:%016d", i) + 16;
        CHECK(put(key, "sixteen bytes .."));
        if (i >= 5000 && i % 200 == 0) {
            redlane_near_stats(near, &stats);
            CHECK_INTEGER(stats.entries, i);
            if ((stats.bytes - data) / stats.entries > most) {
                most = (stats.bytes - data) / stats.entries;
            }
        }
    }
    CHECK(most > 80 && most <= 112);
    end();
}

/* A form goes with its value, and marks nothing else. */
static void
test_forms(void)
{
    RedlaneNearOffer offer = {.value = new_value("v"), .form = 7, .pttl_ms = HOUR_MS};
    RedlaneNearTicket ticket;
    RedlaneNearEntry *entry, *found;

    begin(1 << 20);
    confirm();
    ticket = ticket_for("k1");
    entry = redlane_near_store(near, "k1", 2, &ticket, &offer);
    CHECK(put("k2", "w"));
    found = redlane_near_find(near, "k1", 2);
    CHECK(entry && found == entry && found->form == 7);
    free_value(redlane_near_entry_release(found));
    free_value(redlane_near_entry_release(entry));
    found = redlane_near_find(near, "k2", 2);
    CHECK(found && found->form == 0);
    free_value(redlane_near_entry_release(found));
    end();
}

/* Bytes stay within the bound, and what is used stays. */
static void
test_bound(void)
{
    size_t max = 400000;
    RedlaneNearStats stats;
    char key[32];

    begin(max);
    confirm();
    for (int i = 0; i < 100000; i++) {
        (void)snprintf(key, sizeof(key), "key:%d", i);
        (void)put(key, "text");
        CHECK(atomic_load(&cache()->bytes) <= max);
        (void)snprintf(key, sizeof(key), "key:%d", i % 100);
        gives(redlane_near_find(near, key, strlen(key)), NULL);
        if (i % 1000 == 0) {
            free_dead();
        }
    }
    redlane_near_stats(near, &stats);
    CHECK(stats.entries > 1000 && stats.evictions > 90000);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof(key), "key:%d", i);
        CHECK(finds(key, "text")); /* each was used since the hand went by */
    }
    redlane_near_kill_prefix(near, "key:9", 5);
    CHECK(finds("key:9", NULL) && finds("key:99", NULL) && finds("key:8", "text"));
    end();
}

static void
test_large(void)
{
    RedlaneNearTicket ticket;
    RedlaneNearEntry *entry;
    void *value = new_value("large");
    RedlaneNearOffer offer = {
        .value = value, .cost = 50001, .pttl_ms = -1, .near_ttl_ms = HOUR_MS};
    char key[16];

    begin(100000);
    confirm();
    ticket = ticket_for("k");
    CHECK(!redlane_near_store(near, "k", 1, &ticket, &offer));
    for (int i = 0; i < 200; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        CHECK(put(key, "v"));
    }
    offer.cost = 50000;
    entry = redlane_near_store(near, "k", 1, &ticket, &offer);
    CHECK(entry && redlane_near_is_hit(near, entry, redlane_clock_coarse()));
    CHECK(atomic_load(&cache()->bytes) <= 100000);
    free_value(redlane_near_entry_release(entry));
    end();

    /* a bound that holds nothing */
    begin(10);
    confirm();
    CHECK(!put("k", "v") && !put("", ""));
    CHECK_INTEGER(atomic_load(&cache()->bytes), 0);
    end();
}

static void
test_notices(void)
{
    RedlaneNearStats stats;
    char text[232];

    begin(1 << 20);
    unconfirm(); /* not worth a log */
    CHECK(!redlane_near_take_notice(near, text, sizeof(text)));
    for (int i = 0; i < 3; i++) {
        redlane_near_unconfirm(cache(), REDLANE_NEAR_REFUSED, "NOPERM");
        CHECK_INTEGER(redlane_near_take_notice(near, text, sizeof(text)), i == 0);
    }
    CHECK(strcmp(text, "NOPERM") == 0);
    redlane_near_stats(near, &stats);
    CHECK(stats.state == REDLANE_NEAR_REFUSED && strcmp(stats.reason, "NOPERM") == 0);
    confirm();
    CHECK(!redlane_near_take_notice(near, text, sizeof(text)));
    CHECK(redlane_near_is_same_server(near, "run"));
    CHECK(!redlane_near_meets_strangers(cache()));
    CHECK(!redlane_near_is_same_server(near, "") &&
          redlane_near_meets_strangers(cache()));
    redlane_near_tell(cache(), "strangers");
    CHECK(redlane_near_take_notice(near, text, sizeof(text)));
    end();
}

void
test_values(void)
{
    test_tickets();
    test_deadlines();
    test_references();
    test_overhead();
    test_forms();
    test_bound();
    test_large();
    test_notices();
}
