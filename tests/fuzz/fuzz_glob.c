/* The glob matcher against a naive one that tries every `*` again, and a text's escaped
 * form against the text. Input: a byte with the pattern's size, the pattern, the text.
 */
#include <stdbool.h>
#include <string.h>

#include "core/glob.h"
#include "fuzz.h"

#define NAIVE_PATTERN 12 /* above this the naive matcher takes too long */
#define NAIVE_TEXT 16

typedef struct {
    const char *at;
    const char *end;
} Bytes;

/* The class behind a '[', for one byte; moves `pattern` behind it. Written as the
 * server's matcher is: with a count of bytes left, which may stop inside a class. */
static bool
naive_class(Bytes *pattern, char byte)
{
    bool negated = pattern->at < pattern->end && *pattern->at == '^';
    bool found = false;

    pattern->at += negated;
    for (;; pattern->at++) {
        ptrdiff_t left = pattern->end - pattern->at;

        if (left <= 0) {
            pattern->at = pattern->end;
            return found != negated;
        }
        if (left >= 2 && pattern->at[0] == '\\') {
            pattern->at++;
            found = found || pattern->at[0] == byte;
        }
        else if (pattern->at[0] == ']') {
            pattern->at++;
            return found != negated;
        }
        else if (left >= 3 && pattern->at[1] == '-') {
            char first = pattern->at[0], last = pattern->at[2];

            found = found || (first <= byte && byte <= last) ||
                    (last <= byte && byte <= first);
            pattern->at += 2;
        }
        else {
            found = found || pattern->at[0] == byte;
        }
    }
}

static bool
naive_match(Bytes pattern, Bytes text)
{
    char element;

    if (pattern.at == pattern.end) {
        return text.at == text.end;
    }
    element = *pattern.at++;
    if (element == '*') {
        for (;; text.at++) {
            if (naive_match(pattern, text)) {
                return true;
            }
            if (text.at == text.end) {
                return false;
            }
        }
    }
    if (text.at == text.end) {
        return false;
    }
    if (element == '[') {
        if (!naive_class(&pattern, *text.at)) {
            return false;
        }
    }
    else {
        if (element == '\\' && pattern.at < pattern.end) {
            element = *pattern.at++;
        }
        else if (element == '?') {
            element = *text.at;
        }
        if (element != *text.at) {
            return false;
        }
    }
    text.at++;
    return naive_match(pattern, text);
}

static void
check_escape(const char *text, size_t size)
{
    char *pattern = malloc(2 * size + 1);
    char *other = malloc(size + 1);
    size_t pattern_size;

    if (pattern && other) {
        pattern_size = redlane_glob_escape(pattern, text, size);
        require(pattern_size >= size && pattern_size <= 2 * size, "size of an escape");
        require(redlane_glob_match(pattern, pattern_size, text, size),
                "an escaped text matches itself");
        memcpy(other, text, size);
        for (size_t i = 0; i < size && i < 64; i++) {
            other[i] = (char)(other[i] + 1);
            require(!redlane_glob_match(pattern, pattern_size, other, size),
                    "an escaped text matches nothing else");
            other[i] = text[i];
        }
        require(redlane_glob_is_literal(text, size) == (pattern_size == size),
                "a literal is what needs no escape");
    }
    free(pattern);
    free(other);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *pattern, *text;
    size_t pattern_size, text_size;
    bool matched;

    if (size == 0) {
        return 0;
    }
    pattern_size = data[0] < size - 1 ? data[0] : size - 1;
    pattern = (const char *)data + 1;
    text = pattern + pattern_size;
    text_size = size - 1 - pattern_size;
    matched = redlane_glob_match(pattern, pattern_size, text, text_size);
    if (pattern_size <= NAIVE_PATTERN && text_size <= NAIVE_TEXT) {
        bool naive = naive_match((Bytes){pattern, pattern + pattern_size},
                                 (Bytes){text, text + text_size});

        /* the server's corner: of all `*`, only a lone one matches the empty text */
        if (text_size == 0) {
            naive = pattern_size == 0 || (pattern_size == 1 && *pattern == '*');
        }
        require(matched == naive, "both matchers agree");
    }
    check_escape(text, text_size);
    return 0;
}
