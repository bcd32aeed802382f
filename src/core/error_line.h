/* What of a server's error line may be shown to people: it goes into exceptions and
 * logs. No lock, no GIL. */
#ifndef REDLANE_CORE_ERROR_LINE_H
#define REDLANE_CORE_ERROR_LINE_H

#include <stddef.h>

/* How much of a server's error line may be shown: a server repeats the arguments of a
 * command that it does not know, and a hostile one the password (NULL: there is none),
 * which is not looked for when it is too short to tell from a word. */
size_t redlane_error_line_shown(const char *line, size_t size, const char *password,
                                size_t password_size);

#endif
