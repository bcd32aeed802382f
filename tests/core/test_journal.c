/* The journal, step by step. Most cases are scripts: one letter a step, on one key, and
 * what is told to the server in the end. */
#include "core/journal.h"

#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "harness.h"

#define SECOND REDLANE_NS_PER_S

static const RedlaneArg key = REDLANE_ARG_LITERAL("k");
static const RedlaneArg space = REDLANE_ARG_LITERAL("k*");
static const RedlaneArg no_space = {NULL, 0};

static RedlaneArg
arg(const char *text)
{
    return (RedlaneArg){text, strlen(text)};
}

/* --- what is told ----------------------------------------------------------------- */

/* As much as fits. */
typedef struct {
    char text[512];
    size_t size;
    int answer; /* put's */
} Told;

static void
tell(Told *told, const char *format, const char *text, size_t size)
{
    size_t room = sizeof(told->text) - told->size;
    int written = snprintf(told->text + told->size, room, format, (int)size, text);

    told->size += (size_t)written < room ? (size_t)written : room - 1;
}

static void
tell_number(Told *told, const char *sign, int64_t number)
{
    char digits[32];

    (void)snprintf(digits, sizeof(digits), "%s%lld", sign, (long long)number);
    tell(told, "%.*s", digits, strlen(digits));
}

/* "-" remove, "=value" store, "!" where a permanent one wins, "@ms" its life, "+amount"
 * add, "~ms" the life of a key that is made so. */
static int
put(void *context, const RedlaneOrder *order)
{
    Told *told = context;

    if (told->answer < 0) {
        return -1;
    }
    if (order->remove) {
        tell(told, "%.*s", "-", 1);
    }
    if (order->store) {
        tell(told, "=%.*s", order->value.data ? order->value.data : "",
             order->value.size);
        if (order->permanent_wins) {
            tell(told, "%.*s", "!", 1);
        }
        if (order->px) {
            tell_number(told, "@", order->px);
        }
    }
    if (order->add) {
        tell_number(told, "+", order->amount);
        if (order->amount_px) {
            tell_number(told, "~", order->amount_px);
        }
    }
    return told->answer;
}

static Told
take_all(RedlaneJournal *journal, int64_t now)
{
    Told told = {.answer = 1};
    const RedlaneJournalPattern *pattern;

    while ((pattern = redlane_journal_take_pattern(journal))) {
        tell(&told, "[%.*s]", pattern->text, pattern->size);
    }
    (void)redlane_journal_take(journal, now, put, &told);
    return told;
}

static void
check_empty(const RedlaneJournal *journal)
{
    CHECK(redlane_journal_is_empty(journal));
    CHECK_INTEGER(journal->bytes, 0);
    CHECK(journal->inflight == NULL);
}

/* --- scripts ---------------------------------------------------------------------- */

/* D a delete, S a set kept as one, A an amount; V a value, E one that ends at 1 s, P a
 * permanent and T a temporary one of the kind where the permanent wins. Values and
 * amounts are the step's number.
 * t take, q take patterns, s settled as sent, f as failed; r refused, a refused but for
 * its amount, and sent; x two seconds pass; p a pattern that matches, m the server has
 * deleted by one; F fork. */
static RedlaneChange
change_of(char step, char *digit, int number)
{
    RedlaneChange change = {.kind = REDLANE_CHANGE_VALUE, .key = key};

    *digit = (char)('0' + number);
    change.value = (RedlaneArg){digit, 1};
    change.amount = number;
    switch (step) {
    case 'D':
        change.kind = REDLANE_CHANGE_DELETE;
        break;
    case 'S':
        change.kind = REDLANE_CHANGE_DROP;
        break;
    case 'A':
        change.kind = REDLANE_CHANGE_AMOUNT;
        break;
    case 'E':
        change.expires_at = SECOND;
        break;
    case 'T':
        change.expires_at = SECOND;
        change.permanent_wins = true;
        break;
    case 'P':
        change.permanent_wins = true;
        break;
    default:
        CHECK(step == 'V');
    }
    return change;
}

static void
run_step(RedlaneJournal *journal, char step, int number, int64_t *now)
{
    Told ignored = {.answer = 1};
    RedlaneChange change;
    char digit;

    switch (step) {
    case 't':
        (void)redlane_journal_take(journal, *now, put, &ignored);
        break;
    case 'q':
        CHECK(redlane_journal_take_pattern(journal) != NULL);
        break;
    case 'r':
    case 'a':
        redlane_journal_refuse(journal, 0, step == 'r');
        redlane_journal_settle(journal, true);
        break;
    case 's':
    case 'f':
        redlane_journal_settle(journal, step == 's');
        break;
    case 'x':
        *now += 2 * SECOND;
        break;
    case 'p':
        CHECK(redlane_journal_keep_pattern(journal, space));
        break;
    case 'm':
        redlane_journal_drop_matching(journal, space);
        break;
    case 'F':
        redlane_journal_after_fork(journal);
        break;
    default:
        change = change_of(step, &digit, number);
        CHECK(redlane_journal_keep(journal, &change, no_space));
    }
}

static void
run_script(const char *script, const char *wanted, uint64_t lost)
{
    RedlaneJournal journal;
    int64_t now = 1;
    Told told;

    redlane_journal_init(&journal, 4096);
    for (int i = 0; script[i]; i++) {
        run_step(&journal, script[i], i + 1, &now);
        CHECK(redlane_journal_holds(&journal, key) ==
              !redlane_journal_is_empty(&journal));
        CHECK((journal.bytes == 0) == redlane_journal_is_empty(&journal));
    }
    told = take_all(&journal, now);
    check_bytes(told.text, told.size, wanted, strlen(wanted), script, __FILE__,
                __LINE__);
    check_integer((int64_t)journal.lost, (int64_t)lost, script, __FILE__, __LINE__);
    redlane_journal_settle(&journal, true);
    check_empty(&journal);
    redlane_journal_free(&journal);
}

typedef struct {
    const char *script, *told;
    uint64_t lost;
} Case;

#define RUN_CASES(cases)                                                 \
    for (size_t i = 0; i < sizeof(cases) / sizeof((cases)[0]); i++) {    \
        run_script((cases)[i].script, (cases)[i].told, (cases)[i].lost); \
    }

static void
test_merging(void)
{
    static const Case cases[] = {
        /* the table of journal.h, row by row */
        {"D", "-", 0},
        {"S", "-", 0},
        {"V", "=1", 0},
        {"A", "+1", 0},
        {"DD", "-", 0},
        {"DS", "-", 0},
        {"DV", "-=2", 0},
        {"DA", "-+2", 0},
        {"SD", "-", 0},
        {"SS", "-", 0},
        {"SV", "-=2", 0},
        {"SA", "-", 0},
        {"VD", "-", 0},
        {"VS", "-", 0},
        {"VV", "=2", 0},
        {"VA", "=1+2", 0},
        {"AD", "-", 0},
        {"AS", "-", 0},
        {"AV", "=2", 0},
        {"AA", "+3", 0},
        /* longer */
        {"SDA", "-+3", 0},
        {"DSA", "-", 0},
        {"SVA", "-=2+3", 0},
        {"VAA", "=1+5", 0},
        {"VAV", "=3", 0},
        {"DAAV", "-=4", 0},
        {"DVAS", "-", 0},
        {"DVDA", "-+4", 0},
    };

    RUN_CASES(cases)
}

static void
test_in_flight(void)
{
    static const Case cases[] = {
        /* nothing meanwhile */
        {"Dts", "", 0},
        {"Vts", "", 0},
        {"Ats", "", 0},
        {"Dtf", "-", 0},
        {"Stf", "-", 0},
        {"Vtf", "=1", 0},
        {"Atf", "", 1},
        {"DVtf", "-=2", 0},
        {"DAtf", "-", 1},
        {"VAtf", "=1", 1},
        {"VAts", "", 0},
        {"Vtftftf", "=1", 0},
        /* later changes, then failed */
        {"DtDf", "-", 0},
        {"DtSf", "-", 0},
        {"DtVf", "-=3", 0},
        {"DtAf", "-+3", 0},
        {"StAf", "-", 0},
        {"StVf", "-=3", 0},
        {"StVAf", "-=3+4", 0},
        {"VtDf", "-", 0},
        {"VtSf", "-", 0},
        {"VtVf", "-=3", 0},
        {"VtAf", "=1+3", 0},
        {"VtDVf", "-=4", 0},
        {"AtAf", "+3", 1},
        {"AtDf", "-", 0},
        {"AtVf", "=3", 0},
        {"VAtAf", "=1+4", 1},
        {"DVtAf", "-=2+4", 0},
        /* later changes, then sent */
        {"DtVs", "=3", 0},
        {"DtAs", "+3", 0},
        {"DtDs", "-", 0},
        {"StAs", "", 0},
        {"StVs", "=3", 0},
        {"VtDs", "-", 0},
        {"VtAs", "+3", 0},
        {"AtAs", "+3", 0},
        /* a value of ours may stand there: the next one overwrites */
        {"VtVs", "-=3", 0},
        {"VtfV", "-=4", 0},
        {"VtAsV", "-=5", 0},
        {"VtrV", "=4", 0},
        {"VDtVs", "=4", 0},
        {"VtfDtVs", "=6", 0},
        /* what is in flight is not taken again */
        {"DtVtf", "-=3", 0},
        {"VtDtf", "-", 0},
        {"VtDts", "-", 0},
        {"AtAtf", "+3", 1},
        {"ttsf", "", 0},
    };

    RUN_CASES(cases)
}

static void
test_refused(void)
{
    static const Case cases[] = {
        {"Dtr", "-", 0},    {"Vtr", "=1", 0},  {"Atr", "+1", 0},  {"VAtr", "=1+2", 0},
        {"DAtr", "-+2", 0}, {"VAta", "=1", 0}, /* the amount was taken */
        {"AtAr", "+4", 0},  {"AtDr", "-", 0},  {"AtVr", "=3", 0}, {"Atrtr", "+1", 0},
        {"Atrtf", "", 1},   {"r", "", 0},
    };

    RUN_CASES(cases)
}

static void
test_permanent_and_expired(void)
{
    static const Case cases[] = {
        {"E", "=1@999", 0},
        {"T", "=1!@999", 0},
        {"PT", "=1!", 0},
        {"TP", "=2!", 0},
        {"TT", "=2!@999", 0},
        {"PP", "=2!", 0},
        {"DPT", "-=2!", 0},
        {"PDT", "-=3!@999", 0},
        {"PV", "=2", 0},
        {"PtTf", "=1!", 0},
        {"PtTs", "", 0},
        {"PtfT", "=1!", 0},
        {"PtDTf", "-=4!@999", 0},
        /* temporary: what stands there may be another's permanent one */
        {"TtTf", "=3!@999", 0},
        {"TtTs", "=3!@999", 0},
        {"TtPf", "-=3!", 0},
        /* expired */
        {"Ex", "", 0},
        {"EAx", "", 0},
        {"DEx", "-", 0},
        {"DEAx", "-", 0},
        {"Etfx", "", 0},
        {"Etfxts", "", 0},
        {"EtxVf", "-=4", 0},
        {"VtEfx", "-", 0}, /* the former one, which it replaced, may stand there */
        {"VtExs", "-", 0},
        {"TtTfx", "", 0},
        {"ExtDs", "-", 0},
        {"Extps", "[k*]", 0},
    };

    RUN_CASES(cases)
}

static void
test_patterns(void)
{
    static const Case cases[] = {
        {"p", "[k*]", 0},     {"pp", "[k*]", 0},    {"Dp", "[k*]", 0},
        {"Vp", "[k*]", 0},    {"Ap", "[k*]", 0},    {"pD", "[k*]-", 0},
        {"pV", "[k*]=2", 0},  {"pA", "[k*]+2", 0},  {"pVp", "[k*]", 0},
        {"pqs", "", 0},       {"pqf", "[k*]", 0},   {"pqps", "[k*]", 0},
        {"pqpf", "[k*]", 0},  {"pqVs", "=3", 0},    {"pqVf", "[k*]=3", 0},
        {"pqDf", "[k*]-", 0}, {"pqVps", "[k*]", 0}, {"Vtps", "[k*]-", 0},
        {"Vtpf", "[k*]-", 0}, {"Atpf", "[k*]-", 0}, {"DtpVs", "[k*]-=4", 0},
        {"Vm", "-", 0},       {"Am", "-", 0},       {"DVm", "-", 0},
        {"m", "", 0},         {"Vtms", "-", 0},     {"Atmf", "-", 0},
    };

    RUN_CASES(cases)
}

static void
test_fork(void)
{
    static const Case cases[] = {
        {"DF", "-", 0},     {"SF", "-", 0},      {"VF", "", 0},    {"AF", "", 0},
        {"VAF", "", 0},     {"DVF", "-", 0},     {"DVFA", "-", 0}, {"DAF", "-", 0},
        {"DAFA", "-+4", 0}, {"VFA", "+3", 0},    {"DtF", "-", 0},  {"VtF", "", 0},
        {"VtDF", "-", 0},   {"AtF", "", 0},      {"AtAF", "", 0},  {"pF", "[k*]", 0},
        {"pqF", "[k*]", 0}, {"pqVF", "[k*]", 0}, {"VtVF", "-", 0}, {"Atf", "", 1},
        {"AtfF", "", 0},    {"SFA", "-", 0},
    };

    RUN_CASES(cases)
}

/* --- bounds ----------------------------------------------------------------------- */

static bool
keep_text(RedlaneJournal *journal, RedlaneChangeKind kind, const char *text,
          RedlaneArg where)
{
    RedlaneChange change = {.kind = kind, .key = arg(text), .amount = 1};

    return redlane_journal_keep(journal, &change, where);
}

static bool
keep_value(RedlaneJournal *journal, const char *text, size_t size, RedlaneArg where)
{
    static const char bytes[8192];
    RedlaneChange change = {
        .kind = REDLANE_CHANGE_VALUE, .key = arg(text), .value = {bytes, size}};

    CHECK(size <= sizeof(bytes));
    return redlane_journal_keep(journal, &change, where);
}

static void
end(RedlaneJournal *journal)
{
    (void)take_all(journal, 1);
    redlane_journal_settle(journal, true);
    check_empty(journal);
    redlane_journal_free(journal);
}

/* Deletes without end fit, as one pattern; what they do not cover stays. */
static void
test_deletes_overflow_into_a_pattern(void)
{
    RedlaneJournal journal;
    char text[32];

    redlane_journal_init(&journal, 4096);
    CHECK(keep_value(&journal, "k:value", 100, space));
    CHECK(keep_text(&journal, REDLANE_CHANGE_DELETE, "other", no_space));
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(text, sizeof(text), "k:%d", i);
        CHECK(keep_text(&journal, i & 1 ? REDLANE_CHANGE_DELETE : REDLANE_CHANGE_DROP,
                        text, space));
        CHECK(redlane_journal_holds(&journal, arg(text)));
        CHECK(journal.bytes <= 4096);
    }
    CHECK_INTEGER(journal.pattern_count, 1);
    CHECK_INTEGER(journal.lost, 0);
    CHECK(redlane_journal_holds(&journal, arg("k:0")));
    CHECK(redlane_journal_holds(&journal, arg("other")));
    CHECK(!redlane_journal_holds(&journal, arg("another")));
    CHECK(journal.table.count > 2); /* those after the last overflow */
    end(&journal);
}

static void
test_overflow_without_a_space(void)
{
    RedlaneJournal journal;
    char text[32];
    size_t kept = 0;

    redlane_journal_init(&journal, 4096);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(text, sizeof(text), "k:%d", i);
        kept += keep_text(&journal, REDLANE_CHANGE_AMOUNT, text, no_space);
    }
    CHECK(kept > 5 && kept < 50);
    CHECK_INTEGER(journal.lost, 1000 - kept);
    CHECK_INTEGER(journal.table.count, kept);
    /* what is there can still change */
    CHECK(keep_text(&journal, REDLANE_CHANGE_AMOUNT, "k:0", no_space));
    CHECK(keep_text(&journal, REDLANE_CHANGE_DELETE, "k:0", no_space));
    /* a space that frees nothing is of no use to an amount, and is not spent on it */
    CHECK(!keep_text(&journal, REDLANE_CHANGE_AMOUNT, "k:x", arg("k:x*")));
    CHECK_INTEGER(journal.pattern_count, 0);
    /* one that does is */
    for (int i = 0; i < 9; i++) {
        (void)snprintf(text, sizeof(text), "k:%d", i);
        CHECK(keep_text(&journal, REDLANE_CHANGE_DELETE, text, no_space));
    }
    CHECK(keep_text(&journal, REDLANE_CHANGE_AMOUNT, "k:x", arg("k:[0-9x]*")));
    CHECK_INTEGER(journal.pattern_count, 1);
    end(&journal);
}

/* A temporary one in flight, whose successor is lost: neither is due, and no delete,
 * for what stands there may be another's permanent one. */
static void
test_temporary_lost(RedlaneJournal *journal)
{
    static const char bytes[8192];
    RedlaneChange change = {.kind = REDLANE_CHANGE_VALUE,
                            .key = key,
                            .value = {bytes, 100},
                            .expires_at = SECOND,
                            .permanent_wins = true};

    CHECK(redlane_journal_keep(journal, &change, no_space));
    (void)take_all(journal, 1);
    change.value.size = sizeof(bytes);
    CHECK(!redlane_journal_keep(journal, &change, no_space));
    redlane_journal_settle(journal, false);
    check_empty(journal);
}

static void
test_values_overflow(void)
{
    RedlaneJournal journal;

    redlane_journal_init(&journal, 4096);
    CHECK(!keep_value(&journal, "k", 8000, space));
    CHECK_INTEGER(journal.lost, 1);
    check_empty(&journal);
    /* a lost set takes the former one with it, but leaves a delete */
    CHECK(keep_value(&journal, "k", 3000, no_space));
    CHECK(keep_value(&journal, "k", 3100, no_space)); /* in its place */
    CHECK(!keep_value(&journal, "k", 8000, no_space));
    check_empty(&journal);
    CHECK(keep_text(&journal, REDLANE_CHANGE_DELETE, "k", no_space));
    CHECK(keep_value(&journal, "k", 3000, no_space));
    CHECK(!keep_value(&journal, "k", 8000, space));
    CHECK_INTEGER(journal.table.count, 1);
    CHECK_INTEGER(journal.pattern_count, 0);
    CHECK_BYTES(take_all(&journal, 1).text, 1, "-");
    redlane_journal_settle(&journal, true);
    check_empty(&journal);
    /* one in flight is not due again when the next is lost; what it left is */
    CHECK(keep_value(&journal, "k", 100, no_space));
    (void)take_all(&journal, 1);
    CHECK(!keep_value(&journal, "k", 8000, no_space));
    redlane_journal_settle(&journal, false);
    CHECK_BYTES(take_all(&journal, 1).text, 1, "-");
    redlane_journal_settle(&journal, true);
    CHECK_INTEGER(journal.lost, 4);
    test_temporary_lost(&journal);
    /* deletes make room for a value */
    for (char text[] = "k:a"; text[2] <= 'e'; text[2]++) {
        CHECK(keep_text(&journal, REDLANE_CHANGE_DELETE, text, no_space));
    }
    CHECK(keep_value(&journal, "k:a", 3600, space));
    CHECK_INTEGER(journal.table.count, 1);
    CHECK_INTEGER(journal.pattern_count, 1);
    CHECK(journal.bytes <= 4096);
    CHECK_INTEGER(journal.lost, 5);
    end(&journal);
}

static void
test_patterns_overflow(void)
{
    RedlaneJournal journal;
    char text[32];

    redlane_journal_init(&journal, (size_t)1 << 20);
    for (int i = 0; i < REDLANE_JOURNAL_MAX_PATTERNS; i++) {
        (void)snprintf(text, sizeof(text), "%d:*", i);
        CHECK(redlane_journal_keep_pattern(&journal, arg(text)));
    }
    /* the next one is lost, but for what is known to match it */
    CHECK(keep_value(&journal, "k", 10, no_space));
    CHECK(!redlane_journal_keep_pattern(&journal, space));
    CHECK_INTEGER(journal.lost, 1);
    CHECK_INTEGER(journal.table.count, 1);
    CHECK(redlane_journal_keep_pattern(&journal, arg("7:*")));
    end(&journal);

    /* no room for the pattern of a space: what it would have covered stays */
    redlane_journal_init(&journal, 1024);
    CHECK(keep_text(&journal, REDLANE_CHANGE_DELETE, "k1", no_space));
    CHECK(keep_value(&journal, "v", 600, no_space));
    (void)memset(text, '*', sizeof(text));
    text[0] = 'k';
    CHECK(keep_text(&journal, REDLANE_CHANGE_DELETE, "k2", no_space) ||
          journal.lost == 1);
    CHECK(!keep_value(&journal, "k3", 500, (RedlaneArg){text, sizeof(text)}));
    CHECK_INTEGER(journal.pattern_count, 0);
    CHECK(redlane_journal_holds(&journal, arg("k1")));
    /* a pattern that replaces a value takes its room */
    CHECK(redlane_journal_keep_pattern(&journal, arg("*")));
    CHECK_INTEGER(journal.table.count, 0);
    CHECK(!redlane_journal_keep_pattern(&journal,
                                        (RedlaneArg){(const char[2000]){0}, 2000}));
    end(&journal);
}

/* What does not fit under a prefix is replaced by the prefix. */
static void
test_patterns_overflow_into_their_space(void)
{
    RedlaneJournal journal;
    const RedlaneArg users = arg("[u]:*"), written = arg("\\[u\\]:*");
    char text[32];

    redlane_journal_init(&journal, (size_t)1 << 20);
    CHECK(redlane_journal_keep_pattern_in(&journal, arg("other"), written));
    CHECK(redlane_journal_keep_pattern_in(&journal, arg("[[]u]:7"), written));
    CHECK(redlane_journal_keep_pattern_in(&journal, arg("\\[u]:0"), written));
    CHECK(redlane_journal_take_pattern(&journal) != NULL);
    CHECK(redlane_journal_take_pattern(&journal) != NULL);
    CHECK(redlane_journal_take_pattern(&journal) != NULL); /* it stays in flight */
    CHECK(keep_value(&journal, "[u]:value", 10, no_space));
    for (int i = 0; i < 3 * REDLANE_JOURNAL_MAX_PATTERNS; i++) {
        (void)snprintf(text, sizeof(text), "\\[u]:\\%d*", i);
        CHECK(redlane_journal_keep_pattern_in(&journal, arg(text), written));
        CHECK(journal.pattern_count <= REDLANE_JOURNAL_MAX_PATTERNS);
    }
    CHECK(redlane_journal_holds(&journal, arg("[u]:0")));
    CHECK(redlane_journal_holds(&journal, arg("[u]:no pattern of its own")));
    CHECK(!redlane_journal_holds(&journal, arg("u:0")));
    CHECK_INTEGER(journal.table.count, 1);
    CHECK_INTEGER(journal.lost, 0);
    /* what does not begin so, or only may, is lost as ever */
    for (int i = 0; journal.pattern_count < REDLANE_JOURNAL_MAX_PATTERNS; i++) {
        (void)snprintf(text, sizeof(text), "%d:*", i);
        CHECK(redlane_journal_keep_pattern_in(&journal, arg(text), written));
    }
    CHECK(!redlane_journal_keep_pattern_in(&journal, arg("\\[u*"), written));
    CHECK(!redlane_journal_keep_pattern_in(&journal, arg("?u]:1"), written));
    CHECK(!redlane_journal_keep_pattern_in(&journal, arg("[u]:1"), users));
    CHECK(!redlane_journal_keep_pattern_in(&journal, arg("\\"), written));
    CHECK(!redlane_journal_keep_pattern_in(&journal, no_space, no_space) ||
          journal.lost == 4);
    end(&journal);

    /* what fits in neither way: as before */
    redlane_journal_init(&journal, 32);
    CHECK(!redlane_journal_keep_pattern_in(
        &journal, (RedlaneArg){"k12345678901234567890123456789", 30}, space));
    CHECK_INTEGER(journal.pattern_count, 0);
    end(&journal);
}

/* Pointers to patterns end with the next change, their text lasts till it is settled.
 */
static void
test_pattern_in_flight_while_others_come(void)
{
    RedlaneJournal journal;
    const RedlaneJournalPattern *pattern;
    const char *taken;
    char text[32];

    redlane_journal_init(&journal, (size_t)1 << 20);
    CHECK(redlane_journal_keep_pattern(&journal, space));
    pattern = redlane_journal_take_pattern(&journal);
    taken = pattern->text;
    for (int i = 0; i < 100; i++) {
        (void)snprintf(text, sizeof(text), "%d:*", i);
        CHECK(redlane_journal_keep_pattern(&journal, arg(text)));
    }
    CHECK(memcmp(taken, "k*", 2) == 0);
    redlane_journal_settle(&journal, true);
    CHECK(!redlane_journal_holds(&journal, key));
    CHECK(redlane_journal_holds(&journal, arg("99:1")));
    CHECK_INTEGER(journal.pattern_count, 100);
    end(&journal);

    redlane_journal_init(&journal, 4096);
    CHECK(redlane_journal_keep_pattern(&journal, no_space));
    CHECK(redlane_journal_keep_pattern(&journal, no_space));
    CHECK_INTEGER(journal.pattern_count, 1);
    CHECK(redlane_journal_holds(&journal, arg("")));
    CHECK(keep_value(&journal, "", 0, no_space));
    end(&journal);
}

static void
test_amounts(void)
{
    RedlaneJournal journal;
    RedlaneChange change = {.kind = REDLANE_CHANGE_AMOUNT,
                            .key = key,
                            .amount = INT64_MAX,
                            .amount_px = 500};
    Told told;

    redlane_journal_init(&journal, 4096);
    CHECK(redlane_journal_keep(&journal, &change, space));
    change.amount = 1;
    CHECK(!redlane_journal_keep(&journal, &change, space));
    CHECK_INTEGER(journal.lost, 1);
    CHECK_INTEGER(journal.pattern_count, 0);
    change.amount = -7;
    CHECK(redlane_journal_keep(&journal, &change, space));
    told = take_all(&journal, 1);
    CHECK_BYTES(told.text, told.size, "+9223372036854775800~500");
    /* one that was refused, and no longer fits beside what came since */
    change.amount = INT64_MAX;
    CHECK(redlane_journal_keep(&journal, &change, space));
    redlane_journal_refuse(&journal, 0, true);
    redlane_journal_settle(&journal, true);
    CHECK_INTEGER(journal.lost, 2);
    told = take_all(&journal, 1);
    CHECK_BYTES(told.text, told.size, "+9223372036854775807~500");
    redlane_journal_settle(&journal, true);
    end(&journal);
}

static int
copy_order(void *context, const RedlaneOrder *order)
{
    *(RedlaneOrder *)context = *order;
    return 1;
}

/* The first that makes the key decides; one that only adds to what is there does not.
 */
static void
test_amounts_that_make_no_key(void)
{
    static const int64_t px[][3] = {
        {REDLANE_AMOUNT_EXISTING, REDLANE_AMOUNT_EXISTING, REDLANE_AMOUNT_EXISTING},
        {500, REDLANE_AMOUNT_EXISTING, 500},
        {REDLANE_AMOUNT_EXISTING, 500, 500},
        {500, 0, 500}};

    for (size_t i = 0; i < sizeof(px) / sizeof(px[0]); i++) {
        RedlaneJournal journal;
        RedlaneOrder order;

        redlane_journal_init(&journal, REDLANE_JOURNAL_MAX_BYTES);
        for (int n = 0; n < 2; n++) {
            RedlaneChange change = {.kind = REDLANE_CHANGE_AMOUNT,
                                    .key = key,
                                    .amount = 2,
                                    .amount_px = px[i][n]};

            CHECK(redlane_journal_keep(&journal, &change, no_space));
        }
        CHECK_INTEGER(redlane_journal_take(&journal, 0, copy_order, &order), 1);
        CHECK_INTEGER(order.amount, 4);
        CHECK_INTEGER(order.amount_px, px[i][2]);
        redlane_journal_settle(&journal, true);
        redlane_journal_free(&journal);
    }
}

/* How often `change` fails alone before it is given up; 0: never, in 100 times. */
static int
count_failures(RedlaneChange change)
{
    RedlaneJournal journal;
    RedlaneOrder order;
    int failures = 0;

    redlane_journal_init(&journal, REDLANE_JOURNAL_MAX_BYTES);
    CHECK(redlane_journal_keep(&journal, &change, no_space));
    for (int i = 1; !failures && i <= 100; i++) {
        CHECK_INTEGER(redlane_journal_take(&journal, 0, copy_order, &order), 1);
        CHECK(order.store);
        redlane_journal_settle(&journal, false);
        if (journal.lost) {
            failures = i;
        }
    }
    if (failures) { /* the key is deleted all the same, and others are not held up */
        CHECK_INTEGER(redlane_journal_take(&journal, 0, copy_order, &order), 1);
        CHECK(order.remove && !order.store);
        redlane_journal_settle(&journal, true);
        CHECK(redlane_journal_is_empty(&journal));
        CHECK_INTEGER(journal.lost, 1);
    }
    redlane_journal_free(&journal);
    return failures;
}

static void
test_giving_up(void)
{
    static const char bytes[70000];
    RedlaneChange change = {
        .kind = REDLANE_CHANGE_VALUE, .key = key, .value = {bytes, sizeof(bytes)}};

    CHECK_INTEGER(count_failures(change), 10);
    change.value.size = 100;
    CHECK_INTEGER(count_failures(change), 0);
}

static void
test_taking_in_parts(void)
{
    RedlaneJournal journal;
    Told told = {.answer = 0};
    size_t taken = 0;
    int64_t now = 1;
    char text[32];

    redlane_journal_init(&journal, (size_t)1 << 20);
    CHECK_INTEGER(redlane_journal_take(&journal, 1, put, &told), 0);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(text, sizeof(text), "%d", i);
        CHECK(keep_text(&journal, REDLANE_CHANGE_AMOUNT, text, no_space));
    }
    told.answer = -1;
    CHECK_INTEGER(redlane_journal_take(&journal, 1, put, &told), 0);
    CHECK(journal.inflight == NULL);
    told.answer = 0;
    for (int i = 0; i < 30; i++) {
        taken += redlane_journal_take(&journal, 1, put, &told);
    }
    CHECK_INTEGER(taken, 30);
    redlane_journal_refuse(&journal, 29, true);
    redlane_journal_refuse(&journal, 30, true); /* there is none */
    redlane_journal_settle(&journal, true);
    CHECK_INTEGER(journal.table.count, 71);
    CHECK_INTEGER(journal.lost, 0);
    end(&journal);

    /* what could not be put is due as it was; what has expired of it is gone */
    redlane_journal_init(&journal, 4096);
    CHECK(keep_text(&journal, REDLANE_CHANGE_DELETE, "k", no_space));
    run_step(&journal, 'E', 1, &now);
    run_step(&journal, 'A', 2, &now);
    told.answer = -1;
    CHECK_INTEGER(redlane_journal_take(&journal, 2 * SECOND, put, &told), 0);
    run_step(&journal, 'A', 5, &now);
    told = take_all(&journal, 2 * SECOND);
    CHECK_BYTES(told.text, told.size, "-+5");
    redlane_journal_settle(&journal, true);
    end(&journal);

    /* a value that has expired is gone, even if nothing more can be put */
    redlane_journal_init(&journal, 4096);
    for (char name[] = "a"; name[0] <= 'f'; name[0]++) {
        RedlaneChange change = {.kind = REDLANE_CHANGE_VALUE,
                                .key = arg(name),
                                .value = arg(name),
                                .expires_at = 5};

        CHECK(redlane_journal_keep(&journal, &change, no_space));
    }
    told.answer = -1;
    CHECK_INTEGER(redlane_journal_take(&journal, 5, put, &told), 6);
    check_empty(&journal);
    redlane_journal_free(&journal);
}

static void
test_freeing_all_states(void)
{
    RedlaneJournal journal;

    redlane_journal_init(&journal, 4096);
    CHECK(keep_value(&journal, "k1", 100, no_space));
    CHECK(keep_text(&journal, REDLANE_CHANGE_AMOUNT, "k2", no_space));
    CHECK(redlane_journal_keep_pattern(&journal, arg("x*")));
    (void)take_all(&journal, 1);
    CHECK(redlane_journal_keep_pattern(&journal, arg("y*")));
    CHECK(keep_value(&journal, "k3", 100, no_space));
    redlane_journal_free(&journal);
    check_empty(&journal);
    CHECK(keep_value(&journal, "k3", 100, no_space)); /* and can be used again */
    end(&journal);
}

void
test_journal(void)
{
    test_merging();
    test_in_flight();
    test_refused();
    test_permanent_and_expired();
    test_patterns();
    test_fork();
    test_deletes_overflow_into_a_pattern();
    test_overflow_without_a_space();
    test_values_overflow();
    test_patterns_overflow();
    test_patterns_overflow_into_their_space();
    test_pattern_in_flight_while_others_come();
    test_amounts();
    test_amounts_that_make_no_key();
    test_giving_up();
    test_taking_in_parts();
    test_freeing_all_states();
}
