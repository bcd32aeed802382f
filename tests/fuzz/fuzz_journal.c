/* The journal of outages, driven by the input: two bytes a step. Whatever the order of
 * changes, takings and settlings, its bytes stay within the bound and are those of what
 * is in it, what it kept it holds, what is deleted is told so, and it ends empty. */
#include <string.h>

#include "core/glob.h"
#include "core/journal.h"
#include "fuzz.h"

#define KEYS 16
#define BOUND 2048

typedef struct {
    RedlaneJournal journal;
    bool deleted[KEYS]; /* last told to be so, and not changed since */
    int answers;        /* of put, before it says 0 or -1 */
    int last_answer;
} Run;

static const char names[KEYS + 1] = "abcdefghijklmnop";
static const char *const patterns[] = {"*", "[a-h]", "[i-p]", "a", "[ab]*", "?"};

static RedlaneArg
pattern_of(uint8_t byte)
{
    const char *text = patterns[byte % (sizeof(patterns) / sizeof(patterns[0]))];

    return (RedlaneArg){text, strlen(text)};
}

static bool
is_matched(RedlaneArg pattern, size_t key)
{
    return redlane_glob_match(pattern.data, pattern.size, names + key, 1);
}

static int
put(void *context, const RedlaneOrder *order)
{
    Run *run = context;
    size_t key = (size_t)(order->key.data[0] - 'a');

    require(order->key.size == 1 && key < KEYS, "a key that was given");
    if (run->answers-- <= 0) {
        return run->last_answer;
    }
    require(order->remove || order->store || order->add, "something to do");
    require(!run->deleted[key] || (order->remove && !order->store && !order->add),
            "what is deleted is a delete");
    return 1;
}

static void
change(Run *run, uint8_t what, uint8_t byte)
{
    static const char bytes[64];
    size_t key = byte % KEYS;
    RedlaneChange change = {
        .kind = (RedlaneChangeKind)(what % 4),
        .key = {names + key, 1},
        .value = {bytes, (size_t)(byte >> 4) * 4},
        .expires_at = what & 4 ? 50 : 0,
        .permanent_wins = (what & 8) != 0,
        .amount = what & 4 ? INT64_MAX : -(int64_t)byte,
    };
    RedlaneArg space =
        what & 16 ? pattern_of((uint8_t)(key >= 8) + 1u) : (RedlaneArg){NULL, 0};
    bool kept = redlane_journal_keep(&run->journal, &change, space);

    require(!kept || redlane_journal_holds(&run->journal, change.key),
            "what is kept is held");
    run->deleted[key] = kept && (change.kind == REDLANE_CHANGE_DELETE ||
                                 change.kind == REDLANE_CHANGE_DROP);
}

static void
change_pattern(Run *run, uint8_t byte, bool server_did)
{
    RedlaneArg pattern = pattern_of(byte);

    if (server_did) {
        redlane_journal_drop_matching(&run->journal, pattern);
    }
    else {
        (void)redlane_journal_keep_pattern(&run->journal, pattern);
    }
    for (size_t key = 0; key < KEYS; key++) {
        run->deleted[key] |= is_matched(pattern, key);
    }
}

static void
step(Run *run, uint8_t what, uint8_t byte)
{
    switch (what >> 5) {
    case 0:
        change_pattern(run, byte, what & 1);
        break;
    case 1:
        run->answers = byte >> 4;
        run->last_answer = what & 1 ? -1 : 0;
        (void)redlane_journal_take(&run->journal, byte, put, run);
        break;
    case 2:
        (void)redlane_journal_take_pattern(&run->journal);
        break;
    case 3:
        if (what & 2) {
            redlane_journal_refuse(&run->journal, byte % 4, what & 4);
        }
        redlane_journal_settle(&run->journal, what & 1);
        break;
    case 4:
        if (what == 4 << 5) {
            redlane_journal_after_fork(&run->journal);
        }
        break;
    default:
        change(run, what, byte);
    }
    require(run->journal.bytes <= BOUND, "within its bound");
    require((run->journal.bytes == 0) == redlane_journal_is_empty(&run->journal),
            "bytes are those of what is there");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Run run = {0};

    redlane_journal_init(&run.journal, BOUND);
    for (size_t i = 0; i + 1 < size; i += 2) {
        step(&run, data[i], data[i + 1]);
    }
    redlane_journal_settle(&run.journal, false);
    for (int rounds = 0; !redlane_journal_is_empty(&run.journal); rounds++) {
        require(rounds < 2, "one replay tells all");
        while (redlane_journal_take_pattern(&run.journal)) {
        }
        run.answers = KEYS + 1;
        (void)redlane_journal_take(&run.journal, 100, put, &run);
        redlane_journal_settle(&run.journal, true);
    }
    redlane_journal_free(&run.journal);
    return 0;
}
