/* Glob patterns as KEYS, SCAN MATCH and PSUBSCRIBE understand them, on bytes:
 * `*`, `?`, `[abc]`, `[a-z]`, `[^a]` and `\` before a byte that means itself. */
#ifndef REDLANE_CORE_GLOB_H
#define REDLANE_CORE_GLOB_H

#include <stdbool.h>
#include <stddef.h>

/* True when the whole of `text` matches. Equal to the server's matcher in all its
 * corners (an unclosed class, a reversed range, a last backslash) and to KEYS in that
 * "*" alone also matches the empty key. At most pattern_size * text_size steps. */
bool redlane_glob_match(const char *pattern, size_t pattern_size, const char *text,
                        size_t text_size);

/* True when a key that the pattern found is one that it means. A pattern that begins
 * with "\/", which a server reads as "/", is of tenants' keys: "/app/device/name", no
 * part but the last empty, none with a slash. As a glob's star goes beyond slashes,
 * what a server finds by it is asked here before it is deleted. */
bool redlane_glob_means(const char *pattern, size_t pattern_size, const char *text,
                        size_t text_size);

/* True when the pattern holds no special byte, so that only one text can match. */
bool redlane_glob_is_literal(const char *pattern, size_t pattern_size);

/* Writes a pattern that matches `text` alone to `out`, which has room for 2 * size
 * bytes; returns how many were written. */
size_t redlane_glob_escape(char *out, const char *text, size_t size);

#endif
