#include "core/number.h"

#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __APPLE__
#include <xlocale.h>
#endif

bool
redlane_number_parse_int64(const char *text, size_t size, int64_t *value)
{
    bool negative = size && text[0] == '-';
    size_t at = negative ? 1 : 0;
    uint64_t magnitude = 0;
    uint64_t limit = (uint64_t)INT64_MAX + (negative ? 1 : 0);

    if (size == at || size > REDLANE_INT64_TEXT) {
        return false;
    }
    if (text[at] == '0') {
        if (size != 1) {
            return false;
        }
        *value = 0;
        return true;
    }
    for (; at < size; at++) {
        unsigned digit = (unsigned)(unsigned char)text[at] - '0';

        if (digit > 9 || magnitude > (limit - digit) / 10) {
            return false;
        }
        magnitude = magnitude * 10 + digit;
    }
    *value = negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return true;
}

/* The program's locale may write a comma for the decimal point: calls between enter and
 * leave see the C locale, in this thread alone. A locale that cannot be made (memory)
 * is 0 and changes nothing. */
typedef struct {
    locale_t c;
    locale_t previous;
} LocaleGuard;

static LocaleGuard
enter_c_locale(void)
{
    LocaleGuard guard = {newlocale(LC_ALL_MASK, "C", (locale_t)0), (locale_t)0};

    if (guard.c) {
        guard.previous = uselocale(guard.c);
    }
    return guard;
}

static void
leave_c_locale(LocaleGuard guard)
{
    if (guard.c) {
        (void)uselocale(guard.previous);
        freelocale(guard.c);
    }
}

static bool
starts_with_space(const char *text)
{
    return *text == ' ' || (*text >= '\t' && *text <= '\r');
}

/* Up to 15 digits are exact in a double: no need for strtod. */
static bool
parse_small_integer(const char *text, size_t size, double *value)
{
    int64_t integer;

    if (size > 15 || !redlane_number_parse_int64(text, size, &integer)) {
        return false;
    }
    *value = (double)integer;
    return true;
}

/* strtod in the C locale on a copy that is closed by a NUL. Returns errno, or -1 when
 * memory is exhausted; *read is how many bytes were taken. */
static int
read_double(const char *text, size_t size, double *value, size_t *read)
{
    char small[64];
    char *copy = small;
    char *end = NULL;
    int error;
    LocaleGuard guard;

    if (size >= sizeof(small)) {
        copy = malloc(size + 1);
        if (!copy) {
            return -1;
        }
    }
    if (size) {
        memcpy(copy, text, size);
    }
    copy[size] = 0;
    guard = enter_c_locale();
    errno = 0;
    *value = strtod(copy, &end);
    error = errno;
    leave_c_locale(guard);
    *read = (size_t)(end - copy);
    if (copy != small) {
        free(copy);
    }
    return error;
}

bool
redlane_number_parse_double(const char *text, size_t size, double *value)
{
    double parsed;
    size_t read;
    int error;

    if (parse_small_integer(text, size, value)) {
        return true;
    }
    if (size == 0 || starts_with_space(text)) {
        return false;
    }
    error = read_double(text, size, &parsed, &read);
    if (error < 0 || read != size || isnan(parsed) ||
        (error == ERANGE && (isinf(parsed) || fpclassify(parsed) == FP_ZERO))) {
        return false;
    }
    *value = parsed;
    return true;
}

bool
redlane_number_parse_bound(const char *text, size_t size, double *value)
{
    const char *nul = size ? memchr(text, 0, size) : NULL;
    double parsed;
    size_t read;

    if (parse_small_integer(text, size, value)) {
        return true;
    }
    if (nul) {
        size = (size_t)(nul - text);
    }
    if (read_double(text, size, &parsed, &read) < 0 || read != size || isnan(parsed)) {
        return false;
    }
    *value = parsed;
    return true;
}

bool
redlane_number_parse_long_double(const char *text, size_t size, long double *value)
{
    char copy[REDLANE_LONG_DOUBLE_TEXT];
    char *end = NULL;
    long double parsed;
    int error;
    LocaleGuard guard;

    if (size == 0 || size >= sizeof(copy) || starts_with_space(text)) {
        return false;
    }
    memcpy(copy, text, size);
    copy[size] = 0;
    guard = enter_c_locale();
    errno = 0;
    parsed = strtold(copy, &end);
    error = errno;
    leave_c_locale(guard);
    if (end != copy + size || isnan(parsed) || error == EINVAL ||
        (error == ERANGE && (isinf(parsed) || fpclassify(parsed) == FP_ZERO))) {
        return false;
    }
    *value = parsed;
    return true;
}

size_t
redlane_number_format_int64(char *out, int64_t value)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    char digits[REDLANE_INT64_TEXT];
    size_t at = sizeof(digits);
    uint64_t magnitude = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;

    while (magnitude >= 10) { /* each division waits for the one before */
        at -= 2;
        memcpy(digits + at, pairs + 2 * (magnitude % 100), 2);
        magnitude /= 100;
    }
    if (magnitude || at == sizeof(digits)) {
        digits[--at] = (char)('0' + magnitude);
    }
    if (value < 0) {
        digits[--at] = '-';
    }
    memcpy(out, digits + at, sizeof(digits) - at);
    return sizeof(digits) - at;
}

size_t
redlane_number_format_double(char *out, double value)
{
    char text[REDLANE_DOUBLE_TEXT];
    int size;
    LocaleGuard guard;

    if (value > -1e15 && value < 1e15 && value == (double)(int64_t)value) {
        return redlane_number_format_int64(out, (int64_t)value);
    }
    if (isinf(value)) {
        memcpy(out, value > 0 ? "inf" : "-inf", value > 0 ? 3 : 4);
        return value > 0 ? 3 : 4;
    }
    guard = enter_c_locale();
    size = snprintf(text, sizeof(text), "%.17g", value);
    leave_c_locale(guard);
    memcpy(out, text, (size_t)size);
    return (size_t)size;
}

size_t
redlane_number_format_long_double(char *out, long double value)
{
    char text[REDLANE_LONG_DOUBLE_TEXT];
    size_t size;
    LocaleGuard guard = enter_c_locale();

    size = (size_t)snprintf(text, sizeof(text), "%.17Lf", value);
    leave_c_locale(guard);
    if (size >= sizeof(text)) {
        size = sizeof(text) - 1;
    }
    if (memchr(text, '.', size)) {
        while (text[size - 1] == '0') {
            size--;
        }
        if (text[size - 1] == '.') {
            size--;
        }
    }
    if (size == 2 && memcmp(text, "-0", 2) == 0) {
        text[0] = '0';
        size = 1;
    }
    memcpy(out, text, size);
    return size;
}
