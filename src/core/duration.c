#include "core/duration.h"

#include <stdbool.h>
#include <string.h>

#define FRACTION_DIGITS \
    9 /* of a week's milliseconds still fit int64; more do not count */

typedef struct {
    const char *at, *end;
} Text;

static const struct {
    char name[3];
    int64_t milliseconds;
} units[] = {
    {"w", 604800000}, {"d", 86400000}, {"h", 3600000},
    {"m", 60000},     {"s", 1000},     {"ms", 1},
};

#define UNITS (sizeof(units) / sizeof(units[0]))

static bool
is_digit(const Text *text)
{
    return text->at < text->end && *text->at >= '0' && *text->at <= '9';
}

/* The digits before a point. False when they are more than int64 holds. */
static bool
read_whole(Text *text, int64_t *whole)
{
    for (*whole = 0; is_digit(text); text->at++) {
        if (__builtin_mul_overflow(*whole, 10, whole) ||
            __builtin_add_overflow(*whole, *text->at - '0', whole)) {
            return false;
        }
    }
    return true;
}

/* The digits behind it, as `*part` of `*parts`; `*some` is set when one is not 0. */
static void
read_fraction(Text *text, int64_t *part, int64_t *parts, bool *some)
{
    int count = 0;

    for (*part = 0, *parts = 1; is_digit(text); text->at++) {
        *some |= *text->at != '0';
        if (count++ < FRACTION_DIGITS) {
            *part = *part * 10 + (*text->at - '0');
            *parts *= 10;
        }
    }
}

/* The unit that stands here, one after `first`; UNITS when there is none. */
static size_t
read_unit(Text *text, size_t first)
{
    size_t size = 0;

    while (text->at + size < text->end && text->at[size] >= 'a' &&
           text->at[size] <= 'z') {
        size++;
    }
    for (size_t i = first; i < UNITS; i++) {
        if (strlen(units[i].name) == size &&
            memcmp(units[i].name, text->at, size) == 0) {
            text->at += size;
            return i;
        }
    }
    return UNITS;
}

RedlaneDuration
redlane_duration_parse(const char *text, size_t size, int64_t *milliseconds)
{
    Text rest = {text, text + size};
    size_t unit = 0;
    int64_t total = 0;
    bool some = false;

    if (size == 0) {
        return REDLANE_DURATION_SYNTAX;
    }
    while (rest.at < rest.end) {
        int64_t whole, part = 0, parts = 1, scale;
        bool fits;

        if (!is_digit(&rest)) {
            return REDLANE_DURATION_SYNTAX;
        }
        fits = read_whole(&rest, &whole);
        if (!fits) {
            return REDLANE_DURATION_TOO_LONG;
        }
        some |= whole != 0;
        if (rest.at < rest.end && *rest.at == '.') {
            rest.at++;
            if (!is_digit(&rest)) {
                return REDLANE_DURATION_SYNTAX;
            }
            read_fraction(&rest, &part, &parts, &some);
        }
        unit = read_unit(&rest, unit);
        if (unit == UNITS) {
            return REDLANE_DURATION_SYNTAX;
        }
        scale = units[unit++].milliseconds;
        part = (part * scale + parts / 2) / parts;
        if (__builtin_mul_overflow(whole, scale, &whole) ||
            __builtin_add_overflow(total, whole, &total) ||
            __builtin_add_overflow(total, part, &total)) {
            return REDLANE_DURATION_TOO_LONG;
        }
    }
    *milliseconds = total == 0 && some ? 1 : total;
    return REDLANE_DURATION_OK;
}
