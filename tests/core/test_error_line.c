#include "core/error_line.h"

#include <string.h>

#include "harness.h"

static size_t
shown(const char *line, const char *password)
{
    return redlane_error_line_shown(line, strlen(line), password,
                                    password ? strlen(password) : 0);
}

void
test_error_line(void)
{
    CHECK_INTEGER(shown("ERR no", NULL), 6);
    CHECK_INTEGER(shown("", "secret"), 0);
    CHECK_INTEGER(shown("ERR unknown command 'X', with args beginning with: 'v'", NULL),
                  23);
    CHECK_INTEGER(shown("ERR got AUTH secret", "secret"), 13);
    CHECK_INTEGER(shown("ERR got AUTH secretsecret", "secret"), 13);
    CHECK_INTEGER(shown("secret", "secret"), 0);
    CHECK_INTEGER(shown("ERR secre", "secret"), 4);
    CHECK_INTEGER(shown("ERR secr", "secret"), 4);
    CHECK_INTEGER(shown("ERR sec", "secret"), 7);
    CHECK_INTEGER(shown("ERR ecret", "secret"), 9);
    CHECK_INTEGER(shown("ERR no", "no"), 6);
    CHECK_INTEGER(redlane_error_line_shown("a\0secret", 8, "\0sec", 4), 1);
}
