#include "core/limit_rate.h"

#include <string.h>

/* No number is above this, so that no product of two overflows. */
#define NUMBER_MAX INT64_C(4000000000)

typedef struct {
    const char *at, *end;
} Text;

static const struct {
    char name[8];
    int64_t seconds;
} units[] = {
    {"second", 1},    {"minute", 60},     {"hour", 3600},     {"day", 86400},
    {"week", 604800}, {"month", 2592000}, {"year", 31104000}, {"s", 1},
    {"sec", 1},       {"m", 60},          {"min", 60},        {"h", 3600},
    {"hr", 3600},     {"d", 86400},       {"w", 604800},
};

#define LONG_UNITS 7 /* those that have plurals */

static void
skip_space(Text *text)
{
    while (text->at < text->end && memchr(" \t\n\r\f\v", *text->at, 6)) {
        text->at++;
    }
}

static bool
is_digit(const Text *text)
{
    return text->at < text->end && *text->at >= '0' && *text->at <= '9';
}

static bool
is_letter(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

static RedlaneRateVerdict
read_number(Text *text, int64_t *number)
{
    if (!is_digit(text)) {
        return REDLANE_RATE_SYNTAX;
    }
    for (*number = 0; is_digit(text); text->at++) {
        *number = *number * 10 + (*text->at - '0');
        if (*number > NUMBER_MAX) {
            return REDLANE_RATE_RANGE;
        }
    }
    return *number ? REDLANE_RATE_OK : REDLANE_RATE_RANGE;
}

/* The letters that stand here. */
static Text
peek_word(const Text *text)
{
    Text word = {text->at, text->at};

    while (word.end < text->end && is_letter(*word.end)) {
        word.end++;
    }
    return word;
}

static bool
is_word(const Text *word, const char *name)
{
    size_t size = strlen(name);

    if ((size_t)(word->end - word->at) != size) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if ((word->at[i] | 0x20) != name[i]) {
            return false;
        }
    }
    return true;
}

/* Steps over this word, if it stands here; a unit may follow "per" without a space. */
static bool
take_word(Text *text, const char *name, bool joined)
{
    Text word = peek_word(text);

    if (joined && word.end - word.at > (ptrdiff_t)strlen(name)) {
        word.end = word.at + strlen(name);
    }
    if (!is_word(&word, name)) {
        return false;
    }
    text->at = word.end;
    return true;
}

static RedlaneRateVerdict
read_unit(Text *text, int64_t *seconds)
{
    Text word = peek_word(text), single = word;

    single.end -= word.end > word.at && (word.end[-1] | 0x20) == 's';
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (is_word(&word, units[i].name) ||
            (i < LONG_UNITS && is_word(&single, units[i].name))) {
            *seconds = units[i].seconds;
            text->at = word.end;
            return REDLANE_RATE_OK;
        }
    }
    return REDLANE_RATE_SYNTAX;
}

static RedlaneRateVerdict
read_rate(Text *text, RedlaneRate *rate)
{
    int64_t multiple = 1;
    RedlaneRateVerdict verdict;

    rate->burst = 0;
    skip_space(text);
    verdict = read_number(text, &rate->count);
    if (verdict != REDLANE_RATE_OK) {
        return verdict;
    }
    skip_space(text);
    if (text->at < text->end && *text->at == '/') {
        text->at++;
    }
    else if (!take_word(text, "per", true)) {
        return REDLANE_RATE_SYNTAX;
    }
    skip_space(text);
    if (is_digit(text)) {
        verdict = read_number(text, &multiple);
    }
    if (verdict == REDLANE_RATE_OK) {
        skip_space(text);
        verdict = read_unit(text, &rate->seconds);
    }
    if (verdict != REDLANE_RATE_OK) {
        return verdict;
    }
    rate->seconds *= multiple;
    skip_space(text);
    if (take_word(text, "burst", false)) {
        skip_space(text);
        verdict = read_number(text, &rate->burst);
        skip_space(text);
    }
    return verdict;
}

bool
redlane_rates_add(RedlaneRate *rates, size_t most, size_t *count,
                  const RedlaneRate *rate)
{
    for (size_t i = 0; i < *count; i++) {
        if (rates[i].count == rate->count && rates[i].seconds == rate->seconds &&
            rates[i].burst == rate->burst) {
            return true;
        }
    }
    if (*count == most) {
        return false;
    }
    rates[(*count)++] = *rate;
    return true;
}

RedlaneRateVerdict
redlane_rates_parse(const char *text, size_t size, RedlaneRate *rates, size_t most,
                    size_t *count, size_t *wrong)
{
    Text rest = {text, text + size};
    RedlaneRateVerdict verdict;
    RedlaneRate rate;

    for (*count = 0;; rest.at++) {
        verdict = read_rate(&rest, &rate);
        if (verdict == REDLANE_RATE_OK && rest.at < rest.end &&
            !memchr(";,|", *rest.at, 3)) {
            verdict = REDLANE_RATE_SYNTAX;
        }
        if (verdict == REDLANE_RATE_OK &&
            !redlane_rates_add(rates, most, count, &rate)) {
            verdict = REDLANE_RATE_MANY;
        }
        *wrong = (size_t)(rest.at - text);
        if (verdict != REDLANE_RATE_OK || rest.at == rest.end) {
            return verdict;
        }
    }
}
