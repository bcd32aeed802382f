/* The harness of the plain-C unit tests: checks that print what failed and go on. */
#ifndef REDLANE_TEST_HARNESS_H
#define REDLANE_TEST_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One line for each failure, with its place; all are counted. */
void check_true(bool ok, const char *what, const char *file, int line);
void check_integer(int64_t got, int64_t wanted, const char *what, const char *file,
                   int line);
void check_bytes(const char *got, size_t got_size, const char *wanted,
                 size_t wanted_size, const char *what, const char *file, int line);

#define CHECK(condition) check_true((condition), #condition, __FILE__, __LINE__)
#define CHECK_INTEGER(got, wanted) \
    check_integer((int64_t)(got), (int64_t)(wanted), #got, __FILE__, __LINE__)
#define CHECK_BYTES(got, got_size, wanted)                                       \
    check_bytes((got), (got_size), (wanted), sizeof(wanted) - 1, #got, __FILE__, \
                __LINE__)

/* Every file's tests; runner.c calls them in turn. */
void test_backoff(void);
void test_breaker(void);
void test_buffer(void);
void test_command(void);
void test_command_keys(void);
void test_duration(void);
void test_envelope(void);
void test_error_line(void);
void test_fault(void);
void test_fiber(void);
void test_fork_hooks(void);
void test_glob(void);
void test_journal(void);
void test_journal_charge(void);
void test_journal_model(void);
void test_json(void);
void test_limit(void);
void test_limit_ahead(void);
void test_lock(void);
void test_number(void);
void test_reply(void);
void test_script(void);
void test_url(void);

#endif
