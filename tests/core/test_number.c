#include "core/number.h"

#include <locale.h>
#include <math.h>
#include <string.h>

#include "harness.h"

#define MISSING INT64_C(-77)

static int64_t
parse_integer(const char *text)
{
    int64_t value = MISSING;

    return redlane_number_parse_int64(text, strlen(text), &value) ? value : MISSING;
}

static double
parse_score(const char *text)
{
    double value = -77;

    return redlane_number_parse_double(text, strlen(text), &value) ? value : -77;
}

static void
check_format(double value, const char *wanted)
{
    char text[REDLANE_DOUBLE_TEXT];
    size_t size = redlane_number_format_double(text, value);

    check_bytes(text, size, wanted, strlen(wanted), "double", __FILE__, __LINE__);
}

static void
check_long(const char *value, const char *wanted)
{
    char text[REDLANE_LONG_DOUBLE_TEXT];
    long double parsed = 0;
    size_t size;

    CHECK(redlane_number_parse_long_double(value, strlen(value), &parsed));
    size = redlane_number_format_long_double(text, parsed);
    check_bytes(text, size, wanted, strlen(wanted), value, __FILE__, __LINE__);
}

static void
test_integers(void)
{
    static const char *const refused[] = {"",
                                          "-",
                                          "+1",
                                          " 1",
                                          "1 ",
                                          "01",
                                          "-0",
                                          "-01",
                                          "1.0",
                                          "1e3",
                                          "0x1",
                                          "--1",
                                          "9223372036854775808",
                                          "-9223372036854775809",
                                          "99999999999999999999",
                                          "18446744073709551617"};
    char text[REDLANE_INT64_TEXT];

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        CHECK_INTEGER(parse_integer(refused[i]), MISSING);
    }
    CHECK_INTEGER(parse_integer("0"), 0);
    CHECK_INTEGER(parse_integer("-1"), -1);
    CHECK_INTEGER(parse_integer("1234567890"), 1234567890);
    CHECK_INTEGER(parse_integer("9223372036854775807"), INT64_MAX);
    CHECK_INTEGER(parse_integer("-9223372036854775808"), INT64_MIN);
    CHECK_BYTES(text, redlane_number_format_int64(text, INT64_MIN),
                "-9223372036854775808");
    CHECK_BYTES(text, redlane_number_format_int64(text, INT64_MAX),
                "9223372036854775807");
    CHECK_BYTES(text, redlane_number_format_int64(text, 0), "0");
    CHECK_BYTES(text, redlane_number_format_int64(text, -10), "-10");
}

static void
test_doubles(void)
{
    static const char *const refused[] = {"",      " 1",  "1 ",     "nan",    "1,5",
                                          "1e400", "abc", "1e-400", "-1e400", "0x"};
    char many[200];

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        CHECK(parse_score(refused[i]) == -77);
    }
    CHECK(parse_score("+5") == 5 && parse_score("5.") == 5 && parse_score(".5") == .5);
    CHECK(parse_score("0x10") == 16 && parse_score("1e3") == 1000);
    CHECK(parse_score("123456789012345") == 123456789012345.0);
    CHECK(isinf(parse_score("inf")) && parse_score("-Infinity") == -HUGE_VAL);
    memset(many, '0', sizeof(many));
    many[0] = '1';
    many[1] = '.';
    many[sizeof(many) - 1] = 0;
    CHECK(parse_score(many) == 1);
    CHECK(parse_score("4.9e-324") > 0);

    check_format(0, "0");
    check_format(-0.0, "0");
    check_format(3, "3");
    check_format(-12, "-12");
    check_format(3.1, "3.1000000000000001");
    check_format(1e15, "1000000000000000");
    check_format(1e17, "1e+17");
    check_format(9007199254740992.0, "9007199254740992");
    check_format(-9007199254740992.0, "-9007199254740992");
    check_format(123456789012345678901.0, "1.2345678901234568e+20");
    check_format(4.9e-324, "4.9406564584124654e-324");
    check_format(HUGE_VAL, "inf");
    check_format(-HUGE_VAL, "-inf");
}

static double
parse_bound(const char *text, size_t size)
{
    double value = -77;

    return redlane_number_parse_bound(text, size, &value) ? value : -77;
}

static void
test_bounds(void)
{
    CHECK(parse_bound("", 0) == 0 && parse_bound(" 5", 2) == 5);
    CHECK(parse_bound("1e999", 5) == HUGE_VAL && parse_bound("-1e999", 6) == -HUGE_VAL);
    CHECK(parse_bound("1e-999", 6) == 0 && parse_bound("1\0x", 3) == 1);
    CHECK(parse_bound("\0", 1) == 0 && parse_bound("-inf", 4) == -HUGE_VAL);
    CHECK(parse_bound(" ", 1) == -77 && parse_bound("5 ", 2) == -77);
    CHECK(parse_bound("nan", 3) == -77 && parse_bound("x", 1) == -77);
}

static void
test_long_doubles(void)
{
    static const char *const refused[] = {"",       " 1",      "1 ", "nan",
                                          "1e5000", "1e-5000", "x"};
    long double value;

    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        CHECK(
            !redlane_number_parse_long_double(refused[i], strlen(refused[i]), &value));
    }
    CHECK(!redlane_number_parse_long_double("1\0", 2, &value));
    check_long("0.1", "0.1");
    check_long("3.0", "3");
    check_long("-0", "0");
    check_long("5e3", "5000");
    check_long("10.50", "10.5");
    check_long("0x10", "16");
    check_long("1e-20", "0");
    check_long("100", "100");
}

/* A comma for the point, where such a locale is installed, changes nothing. */
static void
test_locale(void)
{
    if (setlocale(LC_ALL, "de_DE.UTF-8")) {
        test_doubles();
        test_long_doubles();
        (void)setlocale(LC_ALL, "C");
    }
}

void
test_number(void)
{
    test_integers();
    test_doubles();
    test_bounds();
    test_long_doubles();
    test_locale();
}
