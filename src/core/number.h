/* Numbers as Redis reads and writes them. No lock, no GIL, no locale: what these
 * functions give does not change when the program calls setlocale. */
#ifndef REDLANE_CORE_NUMBER_H
#define REDLANE_CORE_NUMBER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define REDLANE_INT64_TEXT 20 /* "-9223372036854775808" */
#define REDLANE_DOUBLE_TEXT 32
#define REDLANE_LONG_DOUBLE_TEXT (5 * 1024) /* 1e4932 in full digits and a fraction */

/* An integer in its one canonical form: no sign '+', no space, no leading zero, no
 * "-0". False, with `*value` as it was, for anything else or out of range. */
bool redlane_number_parse_int64(const char *text, size_t size, int64_t *value);

/* A score (ZADD): what strtod takes whole (1e3, 0x10, inf), but no leading space, no
 * NaN, no overflow and no underflow to zero. */
bool redlane_number_parse_double(const char *text, size_t size, double *value);

/* A bound of ZRANGE BYSCORE and its kin, without its '('. Laxer than a score: spaces
 * may lead, what is too large is infinite and too small 0, nothing at all is 0, and all
 * behind a NUL is not looked at. */
bool redlane_number_parse_bound(const char *text, size_t size, double *value);

/* An amount or value of INCRBYFLOAT; the same rules in long double. */
bool redlane_number_parse_long_double(const char *text, size_t size,
                                      long double *value);

/* Each writes to `out`, which has room for the constant of its type, without a closing
 * NUL, and returns the size. */
size_t redlane_number_format_int64(char *out, int64_t value);

/* As ZSCORE and ZRANGE WITHSCORES reply in RESP2: %.17g, "inf", "-inf". A negative zero
 * is "0", which is what a server gives that keeps a small set as a listpack. */
size_t redlane_number_format_double(char *out, double value);

/* As INCRBYFLOAT replies: 17 decimals at most, no exponent, no trailing zeros. The
 * value must be finite. */
size_t redlane_number_format_long_double(char *out, long double value);

#endif
