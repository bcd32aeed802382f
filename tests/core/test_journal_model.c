/* The journal against a model: random changes by this process and by others, a toy
 * server, and a replay that fails at random, before or after the server has done its
 * part. What is checked is what the journal promises, not how it goes about it:
 *
 *   - a key deleted, or set in a way kept as a delete, and not touched since is absent;
 *   - a durable value is there in the end, or another's, or what stood there before; no
 *     former value of ours;
 *   - nothing of another's is overwritten unless the key was deleted, or set, before;
 *   - a sum is the sum of what was added, less what was in flight and not done when the
 *     link failed: nothing is added twice;
 *   - in the end the journal is empty, and no bytes are counted. */
#include <stdio.h>
#include <string.h>

#include "core/glob.h"
#include "core/journal.h"
#include "harness.h"

#define KEYS 8
#define COUNTERS 4
#define BATCH 6
#define SPACE REDLANE_ARG_LITERAL("k*") /* of keys; counters have none */
#define NO_SPACE ((RedlaneArg){NULL, 0})

/* A place on the toy server. Values are numbers: ours rise from 1, others' fall from
 * -1, 0 is what an addition made. */
typedef struct {
    bool there;
    int64_t value;
    int64_t sum;
} Place;

/* What the process knows of a key it changed while away. */
typedef struct {
    bool deleted;     /* since nothing was kept of it */
    bool sent;        /* a value of ours went out since then */
    bool absent;      /* is to be absent in the end */
    bool present;     /* is to be there in the end */
    int64_t last;     /* our last value; 0: deleted since */
    int64_t standing; /* the value that stood there when the first change was kept */
} Known;

typedef struct {
    size_t key; /* KEYS and above: a counter */
    bool remove, store, add;
    int64_t value, amount;
} Sent;

typedef struct {
    uint64_t state; /* of the dice */
    bool roomy;     /* nothing is lost for lack of room */
    RedlaneJournal journal;
    Place places[KEYS + COUNTERS];
    Known known[KEYS];
    int64_t sums[COUNTERS]; /* what each counter is to be */
    int64_t ours, others;   /* the last values given out */
    Sent batch[BATCH];
    size_t batch_size;
} World;

static uint32_t
throw_dice(World *world, uint32_t sides)
{
    world->state ^= world->state << 13;
    world->state ^= world->state >> 7;
    world->state ^= world->state << 17;
    return (uint32_t)(world->state >> 33) % sides;
}

static const char *const patterns[] = {"k*", "k[0-3]", "k[4-7]", "k5", "k[26]*"};

#define PATTERNS (sizeof(patterns) / sizeof(patterns[0]))

static RedlaneArg
name_of(size_t key)
{
    static const char names[][2] = {"k0", "k1", "k2", "k3", "k4", "k5",
                                    "k6", "k7", "n0", "n1", "n2", "n3"};

    _Static_assert(sizeof(names) / sizeof(names[0]) == KEYS + COUNTERS, "all have one");
    return (RedlaneArg){names[key], 2};
}

static bool
is_matched(const char *pattern, size_t key)
{
    RedlaneArg name = name_of(key);

    return redlane_glob_match(pattern, strlen(pattern), name.data, name.size);
}

/* --- the process ------------------------------------------------------------------ */

/* Before a change: where nothing is kept of the key, a new story begins. */
static void
begin_change(World *world, size_t key)
{
    Known *known = &world->known[key];

    if (!redlane_journal_holds(&world->journal, name_of(key))) {
        known->deleted = known->sent = false;
        known->standing = world->places[key].there ? world->places[key].value : 0;
    }
}

static void
note_delete(World *world, size_t key)
{
    world->known[key] = (Known){.deleted = true, .absent = true};
}

static void
change_delete(World *world, size_t key, RedlaneChangeKind kind)
{
    RedlaneChange change = {.kind = kind, .key = name_of(key)};

    begin_change(world, key);
    if (redlane_journal_keep(&world->journal, &change, SPACE)) {
        note_delete(world, key);
    }
    else {
        world->known[key].present = false;
    }
}

static void
change_value(World *world, size_t key)
{
    Known *known = &world->known[key];
    char text[200];
    RedlaneChange change = {.kind = REDLANE_CHANGE_VALUE, .key = name_of(key)};

    begin_change(world, key);
    (void)memset(text, ' ', sizeof(text));
    (void)snprintf(text, sizeof(text), "%lld", (long long)++world->ours);
    change.value = (RedlaneArg){text, 20 + throw_dice(world, sizeof(text) - 20)};
    if (redlane_journal_keep(&world->journal, &change, SPACE)) {
        known->last = world->ours;
        known->absent = false;
        known->present = world->roomy;
    }
    else {
        known->present = false;
        known->last = 0;
    }
}

static void
change_amount(World *world, size_t key)
{
    RedlaneChange change = {.kind = REDLANE_CHANGE_AMOUNT,
                            .key = name_of(key),
                            .amount = (int64_t)throw_dice(world, 2000) - 500};

    if (key < KEYS) {
        begin_change(world, key);
        world->known[key].absent = false;
        (void)redlane_journal_keep(&world->journal, &change, SPACE);
    }
    else if (redlane_journal_keep(&world->journal, &change, NO_SPACE)) {
        world->sums[key - KEYS] += change.amount;
    }
}

/* Deletes all that matches; `done`: the server did so, and this is told afterwards. */
static void
change_pattern(World *world, bool done)
{
    const char *pattern = patterns[throw_dice(world, PATTERNS)];
    RedlaneArg text = {pattern, strlen(pattern)};

    for (size_t key = 0; key < KEYS; key++) {
        if (is_matched(pattern, key)) {
            begin_change(world, key);
        }
    }
    if (done) {
        redlane_journal_drop_matching(&world->journal, text);
    }
    else if (!redlane_journal_keep_pattern(&world->journal, text)) {
        CHECK(!world->roomy);
        for (size_t key = 0; key < KEYS; key++) {
            world->known[key].present = false;
        }
        return;
    }
    for (size_t key = 0; key < KEYS; key++) {
        if (is_matched(pattern, key)) {
            note_delete(world, key);
            if (done) {
                world->places[key] = (Place){0};
            }
        }
    }
}

/* --- others ----------------------------------------------------------------------- */

static void
other_writes(World *world)
{
    size_t key = throw_dice(world, KEYS + COUNTERS);
    Place *place = &world->places[key];

    if (key >= KEYS) {
        world->sums[key - KEYS] += 1;
        *place = (Place){true, 0, place->sum + 1};
    }
    else if (throw_dice(world, 3)) {
        *place = (Place){true, --world->others, 0};
        world->known[key].absent = false;
    }
    else {
        *place = (Place){0};
        world->known[key].present = false;
    }
}

static void
change_something(World *world)
{
    size_t key = throw_dice(world, KEYS);

    switch (throw_dice(world, 12)) {
    case 0:
    case 1:
        change_delete(world, key, REDLANE_CHANGE_DELETE);
        break;
    case 2:
        change_delete(world, key, REDLANE_CHANGE_DROP);
        break;
    case 3:
    case 4:
    case 5:
        change_value(world, key);
        break;
    case 6:
        change_amount(world, key);
        break;
    case 7:
    case 8:
        change_amount(world, KEYS + throw_dice(world, COUNTERS));
        break;
    case 9:
        if (throw_dice(world, 4) == 0) {
            change_pattern(world, throw_dice(world, 2));
        }
        break;
    default:
        other_writes(world);
    }
    CHECK(world->journal.bytes <= world->journal.max_bytes);
}

/* --- the replay ------------------------------------------------------------------- */

static int
put(void *context, const RedlaneOrder *order)
{
    World *world = context;
    Sent *sent = &world->batch[world->batch_size];
    char digits[20];
    long long value = 0;

    if (throw_dice(world, 20) == 0) {
        return -1;
    }
    *sent = (Sent){.key = (size_t)(order->key.data[1] - '0'),
                   .remove = order->remove,
                   .store = order->store,
                   .add = order->add,
                   .amount = order->amount};
    sent->key += order->key.data[0] == 'n' ? KEYS : 0;
    if (order->store) {
        memcpy(digits, order->value.data, sizeof(digits));
        digits[sizeof(digits) - 1] = '\0';
        CHECK(sscanf(digits, "%lld", &value) == 1);
        sent->value = value;
    }
    CHECK(order->key.size == 2 && (sent->remove || sent->store || sent->add));
    if (sent->key < KEYS) {
        Known *known = &world->known[sent->key];

        CHECK(!world->roomy || !sent->remove || known->deleted || known->sent);
        CHECK(!sent->store || sent->value == known->last);
        known->sent |= sent->store;
    }
    return ++world->batch_size < BATCH;
}

/* One entry reaches the server. */
static void
execute(World *world, const Sent *sent, bool with_store, bool with_amount)
{
    Place *place = &world->places[sent->key];

    if (sent->remove) {
        *place = (Place){0};
    }
    if (sent->store && with_store && !place->there) {
        *place = (Place){true, sent->value, 0};
    }
    if (sent->add && with_amount) {
        place->there = true;
        place->sum += sent->amount;
    }
}

static void
change_meanwhile(World *world)
{
    for (uint32_t i = throw_dice(world, 4); i > 0; i--) {
        change_something(world);
    }
}

/* The server does the first `done` of the batch; with `refusing`, not all of each. */
static void
execute_batch(World *world, size_t done, bool refusing)
{
    for (size_t i = 0; i < done; i++) {
        const Sent *sent = &world->batch[i];
        bool store = true, amount = true;

        if (refusing && throw_dice(world, 2)) {
            store = !sent->store;
            amount = throw_dice(world, 2);
            if (!store || !amount) {
                redlane_journal_refuse(&world->journal, i, !amount);
            }
        }
        execute(world, sent, store, amount);
    }
    for (size_t i = done; i < world->batch_size; i++) {
        if (world->batch[i].add && world->batch[i].key >= KEYS) {
            world->sums[world->batch[i].key - KEYS] -= world->batch[i].amount;
        }
    }
}

static void
replay_pattern(World *world, const RedlaneJournalPattern *taken, bool fails)
{
    char pattern[16] = "";
    bool early = throw_dice(world, 2);

    CHECK(taken->size < sizeof(pattern));
    memcpy(pattern, taken->text, taken->size);
    if (early) {
        change_meanwhile(world);
    }
    if (!fails || throw_dice(world, 2)) {
        for (size_t key = 0; key < KEYS; key++) {
            if (is_matched(pattern, key)) {
                world->places[key] = (Place){0};
            }
        }
    }
    if (!early) {
        change_meanwhile(world);
    }
    redlane_journal_settle(&world->journal, !fails);
}

static void
replay_step(World *world, uint32_t failures)
{
    bool fails = failures && throw_dice(world, failures) == 0;
    const RedlaneJournalPattern *pattern =
        redlane_journal_take_pattern(&world->journal);
    bool early = throw_dice(world, 2);
    size_t done;

    if (pattern) {
        replay_pattern(world, pattern, fails);
        return;
    }
    world->batch_size = 0;
    (void)redlane_journal_take(&world->journal, 1, put, world);
    done =
        fails ? throw_dice(world, (uint32_t)world->batch_size + 1) : world->batch_size;
    if (early) {
        change_meanwhile(world);
    }
    execute_batch(world, done, !fails && throw_dice(world, 4) == 0);
    if (!early) {
        change_meanwhile(world);
    }
    redlane_journal_settle(&world->journal, !fails);
}

/* --- the end of an outage --------------------------------------------------------- */

static void
check_places(World *world)
{
    for (size_t key = 0; key < KEYS; key++) {
        const Known *known = &world->known[key];
        const Place *place = &world->places[key];

        CHECK(!known->absent || !place->there);
        CHECK(!known->present || place->there);
        CHECK(!place->there || place->value <= 0 || place->value == known->last ||
              place->value == known->standing);
    }
    for (size_t i = 0; i < COUNTERS; i++) {
        CHECK_INTEGER(world->places[KEYS + i].sum, world->sums[i]);
    }
    CHECK_INTEGER(world->journal.bytes, 0);
    CHECK(world->journal.inflight == NULL);
}

/* An outage: changes, replays that fail, more of both, until all is said. */
static void
run_outage(World *world, uint32_t failures)
{
    for (uint32_t i = throw_dice(world, 60); i > 0; i--) {
        change_something(world);
        if (throw_dice(world, 8) == 0) {
            replay_step(world, failures);
        }
    }
    for (int i = 0; !redlane_journal_is_empty(&world->journal); i++) {
        replay_step(world, i < 20 ? failures : 0);
        if (i == 10000) {
            CHECK(redlane_journal_is_empty(&world->journal)); /* it never ends */
            break;
        }
    }
    check_places(world);
}

static void
run_world(uint64_t seed, size_t max_bytes, uint32_t failures, int outages)
{
    World world = {.state = seed, .roomy = max_bytes > 8192};

    redlane_journal_init(&world.journal, max_bytes);
    world.journal.seed = (RedlaneSeed){{seed, 1}}; /* the order of the walks, too */
    for (int i = 0; i < outages; i++) {
        /* what stood there before is another's, or nothing */
        for (size_t key = 0; key < KEYS; key++) {
            world.places[key] =
                throw_dice(&world, 2) ? (Place){true, --world.others, 0} : (Place){0};
            world.known[key] = (Known){0};
        }
        run_outage(&world, failures);
    }
    CHECK(failures || !world.roomy || world.journal.lost == 0);
    CHECK(world.roomy || world.journal.lost > 0);
    redlane_journal_free(&world.journal);
}

void
test_journal_model(void)
{
    run_world(0x9e3779b97f4a7c15u, (size_t)1 << 20, 0, 1500);
    run_world(0x2545f4914f6cdd1du, (size_t)1 << 20, 3, 4500);
    run_world(0xd1342543de82ef95u, 1200, 3, 2500);
}
