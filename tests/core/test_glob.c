#include "core/glob.h"

#include <stdlib.h>
#include <string.h>

#include "harness.h"

static bool
match(const char *pattern, const char *text)
{
    return redlane_glob_match(pattern, strlen(pattern), text, strlen(text));
}

/* What a Redis 7.0 server's KEYS answered to each. */
static void
test_against_answers(void)
{
    CHECK(match("*", "") && match("*", "a") && match("", "") && !match("", "a"));
    CHECK(!match("**", "") && !match("?", "") && !match("a", ""));
    CHECK(match("h?llo", "hello") && !match("h?llo", "hllo"));
    CHECK(match("h*llo", "hllo") && match("h*llo", "heeeello") &&
          !match("h*llo", "hell"));
    CHECK(match("h[ae]llo", "hallo") && !match("h[ae]llo", "hillo"));
    CHECK(match("h[^e]llo", "hallo") && !match("h[^e]llo", "hello"));
    CHECK(match("h[a-b]llo", "hbllo") && match("h[b-a]llo", "hallo"));
    CHECK(match("a\\*b", "a*b") && !match("a\\*b", "axb"));
    CHECK(match("a\\", "a\\") && !match("a\\", "a"));
    CHECK(match("[\\]]", "]") && match("[\\-]", "-") && match("[a\\-c]", "-"));
    CHECK(match("[abc", "a") && !match("[abc", "d") && !match("[", "a"));
    CHECK(match("[^", "a") && !match("[]", "a") && match("[^]", "a"));
    CHECK(match("[a-", "a") && match("[a-", "-") && match("[a-]", "_"));
    CHECK(match("a**", "a") && match("*a*", "bab") && !match("*a*", "bcb"));
    CHECK(match("*.jpg", "x.jpg.jpg") && match("ab*cd*ef", "abxcdcdyef"));
    CHECK(redlane_glob_match("a\0*", 3, "a\0b", 3) &&
          !redlane_glob_match("a", 1, "a\0", 2));
}

/* 2^30 steps for a matcher that tries every `*` again. */
static void
test_hostile_pattern(void)
{
    char pattern[2 * 2000 + 1];
    char text[4000];

    for (size_t i = 0; i < 2000; i++) {
        pattern[2 * i] = 'a';
        pattern[2 * i + 1] = '*';
    }
    pattern[4000] = 'b';
    memset(text, 'a', sizeof(text));
    CHECK(!redlane_glob_match(pattern, sizeof(pattern), text, sizeof(text)));
    text[3999] = 'b';
    CHECK(redlane_glob_match(pattern, sizeof(pattern), text, sizeof(text)));
}

static void
test_escape(void)
{
    static const char text[] = "a*b?c[d]e\\f^g-h\0i";
    char pattern[2 * sizeof(text)];
    size_t size = redlane_glob_escape(pattern, text, sizeof(text) - 1);

    CHECK_BYTES(pattern, size, "a\\*b\\?c\\[d]e\\\\f^g-h\0i");
    CHECK(redlane_glob_match(pattern, size, text, sizeof(text) - 1));
    CHECK(!redlane_glob_match(pattern, size, "axb?c[d]e\\f^g-h\0i", sizeof(text) - 1));
    CHECK(redlane_glob_is_literal("abc]^-", 6) && redlane_glob_is_literal("", 0));
    CHECK(!redlane_glob_is_literal("a*", 2) && !redlane_glob_is_literal("\\a", 2));
}

static bool
means(const char *pattern, const char *text)
{
    return redlane_glob_means(pattern, strlen(pattern), text, strlen(text));
}

static void
test_tenants_keys(void)
{
    CHECK(means("/*/d/*", "/x/a/d/one") && means("*", "") && !means("/*/d/*", "/a"));
    CHECK(means("\\/*/d/*", "/a/d/one") && means("\\/*/d/*", "/a/d/"));
    CHECK(!means("\\/*/d/*", "/x/a/d/one") && !means("\\/*/d/*", "/a/d/one/x"));
    CHECK(!means("\\/*/d/*", "//d/one") && !means("\\/*", "/a//one"));
    CHECK(means("\\/*", "/a/b/c") && !means("\\/*", "/a/b") && !means("\\/*", "/"));
    CHECK(means("\\", "\\") && means("\\a", "a"));
}

void
test_glob(void)
{
    test_tenants_keys();
    test_against_answers();
    test_hostile_pattern();
    test_escape();
}
