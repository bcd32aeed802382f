#include "core/script.h"

#include <ctype.h>
#include <string.h>

#include "harness.h"

void
test_script(void)
{
    for (size_t i = 0; i < REDLANE_SCRIPT_COUNT; i++) {
        const RedlaneScript *script = &redlane_scripts[i];
        char upper[40];

        CHECK_INTEGER(strlen(script->sha1), 40);
        for (size_t at = 0; at < 40; at++) {
            CHECK(strchr("0123456789abcdef", script->sha1[at]) != NULL);
            upper[at] = (char)toupper((unsigned char)script->sha1[at]);
        }
        CHECK(redlane_script_by_sha1(script->sha1, 40) == script);
        CHECK(redlane_script_by_sha1(upper, 40) == script);
        CHECK(redlane_script_by_sha1(script->sha1, 39) == NULL);
        CHECK(redlane_script_by_text(script->text, strlen(script->text)) == script);
        CHECK(redlane_script_by_text(script->text, strlen(script->text) - 1) == NULL);
    }
    CHECK(redlane_script_by_sha1("0123456789012345678901234567890123456789", 40) ==
          NULL);
    CHECK(redlane_script_by_text("", 0) == NULL);
}
