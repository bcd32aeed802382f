#include "core/error_line.h"

#include <string.h>

#define PASSWORD_LEAST 4 /* bytes of a password that is looked for */

/* Where `piece` stands in `text`, or `size`. */
static size_t
find_piece(const char *text, size_t size, const char *piece, size_t piece_size)
{
    size_t at = 0;

    while (size - at >= piece_size) {
        const char *found = memchr(text + at, piece[0], size - at - piece_size + 1);

        if (!found) {
            break;
        }
        if (memcmp(found, piece, piece_size) == 0) {
            return (size_t)(found - text);
        }
        at = (size_t)(found - text) + 1;
    }
    return size;
}

size_t
redlane_error_line_shown(const char *line, size_t size, const char *password,
                         size_t password_size)
{
    static const char mark[] = ", with args beginning with";

    size = find_piece(line, size, mark, sizeof(mark) - 1);
    if (!password || password_size < PASSWORD_LEAST) {
        return size;
    }
    size = find_piece(line, size, password, password_size);
    for (size_t part = password_size - 1; part >= PASSWORD_LEAST; part--) {
        if (part <= size && memcmp(line + size - part, password, part) == 0) {
            return size - part; /* a line that was cut in the midst of it */
        }
    }
    return size;
}
