/* Runs all of the tests; prints "N checks, M failures"; fails when any did. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "harness.h"

static size_t checks;
static size_t failures;

static void
count_check(bool ok)
{
    checks++;
    if (!ok) {
        failures++;
    }
}

void
check_true(bool ok, const char *what, const char *file, int line)
{
    count_check(ok);
    if (!ok) {
        printf("%s:%d: not true: %s\n", file, line, what);
    }
}

void
check_integer(int64_t got, int64_t wanted, const char *what, const char *file, int line)
{
    count_check(got == wanted);
    if (got != wanted) {
        printf("%s:%d: %s is %" PRId64 ", not %" PRId64 "\n", file, line, what, got,
               wanted);
    }
}

void
check_bytes(const char *got, size_t got_size, const char *wanted, size_t wanted_size,
            const char *what, const char *file, int line)
{
    bool same = got_size == wanted_size &&
                (got_size == 0 || memcmp(got, wanted, got_size) == 0);

    count_check(same);
    if (!same) {
        printf("%s:%d: %s is \"%.*s\", not \"%.*s\"\n", file, line, what, (int)got_size,
               got ? got : "", (int)wanted_size, wanted);
    }
}

int
main(void)
{
    test_backoff();
    test_breaker();
    test_buffer();
    test_command();
    test_command_keys();
    test_duration();
    test_envelope();
    test_error_line();
    test_fault();
    test_fiber();
    test_fork_hooks();
    test_glob();
    test_journal();
    test_journal_charge();
    test_journal_model();
    test_json();
    test_limit();
    test_limit_ahead();
    test_lock();
    test_number();
    test_reply();
    test_script();
    test_url();
    printf("%zu checks, %zu failures\n", checks, failures);
    return failures ? 1 : 0;
}
