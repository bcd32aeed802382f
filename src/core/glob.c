/* Every element of a pattern but `*` takes exactly one byte of text, so a mismatch need
 * only go back to the last `*`: an earlier one could not do better. That makes the
 * worst case quadratic, where trying every `*` again is exponential. */
#include "core/glob.h"

typedef struct {
    const char *at; /* the next element of the pattern */
    const char *end;
} Cursor;

/* One bracket class against one byte; `pattern` stands behind the '[' and is moved
 * behind the class. An unclosed class ends with the pattern. `char` is compared as the
 * server does: with the platform's sign. */
static bool
match_class(Cursor *pattern, char byte)
{
    const char *at = pattern->at;
    const char *end = pattern->end;
    bool negated = at < end && *at == '^';
    bool found = false;

    if (negated) {
        at++;
    }
    while (at < end && *at != ']') {
        if (*at == '\\' && end - at >= 2) {
            at++;
            found |= *at == byte;
        }
        else if (end - at >= 3 && at[1] == '-') {
            char low = at[0] < at[2] ? at[0] : at[2];
            char high = at[0] < at[2] ? at[2] : at[0];

            found |= byte >= low && byte <= high;
            at += 2;
        }
        else {
            found |= *at == byte;
        }
        at++;
    }
    pattern->at = at < end ? at + 1 : end;
    return found != negated;
}

/* One element that is not `*` against one byte; the cursor moves behind it. */
static inline bool
match_element(Cursor *pattern, char byte)
{
    char element = *pattern->at++;

    if (element == '?') {
        return true;
    }
    if (element == '[') {
        return match_class(pattern, byte);
    }
    if (element == '\\' && pattern->at < pattern->end) {
        element = *pattern->at++;
    }
    return element == byte;
}

bool
redlane_glob_match(const char *pattern, size_t pattern_size, const char *text,
                   size_t text_size)
{
    Cursor cursor = {pattern, pattern + pattern_size};
    const char *end = text + text_size;
    const char *star = NULL;   /* behind the last run of `*` met */
    const char *resume = NULL; /* where the text stood then */

    if (text_size == 0) {
        return pattern_size == 0 || (pattern_size == 1 && *pattern == '*');
    }
    while (text < end) {
        if (cursor.at < cursor.end && *cursor.at == '*') {
            while (cursor.at < cursor.end && *cursor.at == '*') {
                cursor.at++;
            }
            if (cursor.at == cursor.end) {
                return true;
            }
            star = cursor.at;
            resume = text;
            continue;
        }
        if (cursor.at < cursor.end && match_element(&cursor, *text)) {
            text++;
            continue;
        }
        if (!star) {
            return false;
        }
        cursor.at = star;
        text = ++resume;
    }
    while (cursor.at < cursor.end && *cursor.at == '*') {
        cursor.at++;
    }
    return cursor.at == cursor.end;
}

static inline bool
is_special(char byte)
{
    return byte == '*' || byte == '?' || byte == '[' || byte == '\\';
}

/* "/app/device/name" */
static bool
is_tenant_key(const char *text, size_t size)
{
    size_t slashes = 0;

    for (size_t i = 0; i < size; i++) {
        if (text[i] == '/') {
            slashes++;
            if (i > 0 && text[i - 1] == '/') {
                return false;
            }
        }
    }
    return slashes == 3 && text[0] == '/';
}

bool
redlane_glob_means(const char *pattern, size_t pattern_size, const char *text,
                   size_t text_size)
{
    if (!redlane_glob_match(pattern, pattern_size, text, text_size)) {
        return false;
    }
    return pattern_size < 2 || pattern[0] != '\\' || pattern[1] != '/' ||
           is_tenant_key(text, text_size);
}

bool
redlane_glob_is_literal(const char *pattern, size_t pattern_size)
{
    for (size_t i = 0; i < pattern_size; i++) {
        if (is_special(pattern[i])) {
            return false;
        }
    }
    return true;
}

size_t
redlane_glob_escape(char *out, const char *text, size_t size)
{
    size_t written = 0;

    for (size_t i = 0; i < size; i++) {
        if (is_special(text[i])) {
            out[written++] = '\\';
        }
        out[written++] = text[i];
    }
    return written;
}
