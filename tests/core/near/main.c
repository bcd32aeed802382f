/* Runs the near cache's unit tests; prints "N checks, M failures". */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "near_tests.h"

static size_t checks, failures;

void
check_true(bool ok, const char *what, const char *file, int line)
{
    checks++;
    if (!ok) {
        failures++;
        printf("%s:%d: not true: %s\n", file, line, what);
    }
}

void
check_integer(int64_t got, int64_t wanted, const char *what, const char *file, int line)
{
    checks++;
    if (got != wanted) {
        failures++;
        printf("%s:%d: %s is %" PRId64 ", not %" PRId64 "\n", file, line, what, got,
               wanted);
    }
}

void
check_bytes(const char *got, size_t got_size, const char *wanted, size_t wanted_size,
            const char *what, const char *file, int line)
{
    check_true(got_size == wanted_size && memcmp(got, wanted, got_size) == 0, what,
               file, line);
}

int
main(void)
{
    test_prefixes();
    test_values();
    test_dependants();
    test_push();
    printf("%zu checks, %zu failures\n", checks, failures);
    return failures ? 1 : 0;
}
