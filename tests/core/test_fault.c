#include "core/fault.h"

#include <string.h>

#include "harness.h"

static size_t
shown(const char *line, const char *password)
{
    return redlane_fault_shown(line, strlen(line), password,
                               password ? strlen(password) : 0);
}

void
test_fault(void)
{
    RedlaneFault fault;
    char word[300];

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
    CHECK_INTEGER(redlane_fault_shown("a\0secret", 8, "\0sec", 4), 1);

    memset(word, 'x', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    redlane_fault_set(&fault, REDLANE_FAULT_REPLY, "%s", word);
    CHECK_INTEGER(strlen(fault.text), sizeof(fault.text) - 1);
    CHECK(redlane_fault_reply_is_outage("LOADING x", 9));
    CHECK(!redlane_fault_reply_is_outage("LOADINGx", 8));
    CHECK(!redlane_fault_reply_is_outage("LOAD", 4));
}
