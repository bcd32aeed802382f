/* Prints every script as "name sha1 hex-of-text", a line each, for the tests in Python
 * that hash and run them. */
#include <stdio.h>

#include "core/script.h"

int
main(void)
{
    for (size_t i = 0; i < REDLANE_SCRIPT_COUNT; i++) {
        const RedlaneScript *script = &redlane_scripts[i];

        printf("%s %s ", script->name, script->sha1);
        for (const char *at = script->text; *at; at++) {
            printf("%02x", (unsigned)(unsigned char)*at);
        }
        printf("\n");
    }
    return 0;
}
