/* Command vectors of any name and arguments against what the table says of them, and
 * numbers against the C library and against their own text.
 *
 * Input: arguments, each a byte with its size and that many bytes. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/clock.h"
#include "core/command.h"
#include "core/command_rules.h"
#include "core/number.h"
#include "fuzz.h"

#define ARGUMENTS 16

/* strtoll takes spaces, '+' and leading zeros, the canonical form does not: what is
 * read must be what is written. */
static void
check_int64(const char *text, size_t size)
{
    char out[REDLANE_INT64_TEXT], copy[REDLANE_INT64_TEXT + 2];
    char *end;
    int64_t value = 77;
    bool read = redlane_number_parse_int64(text, size, &value);
    long long other;

    if (read) {
        require(redlane_number_format_int64(out, value) == size &&
                    memcmp(out, text, size) == 0,
                "an integer's text is canonical");
        return;
    }
    require(value == 77, "what cannot be read changes nothing");
    if (size == 0 || size > REDLANE_INT64_TEXT || memchr(text, '\0', size)) {
        return;
    }
    memcpy(copy, text, size);
    copy[size] = '\0';
    errno = 0;
    other = strtoll(copy, &end, 10);
    if (errno == 0 && end == copy + size) {
        require(redlane_number_format_int64(out, other) != size ||
                    memcmp(out, text, size) != 0,
                "what is canonical is read");
    }
}

static void
check_double(const char *text, size_t size)
{
    char out[REDLANE_DOUBLE_TEXT];
    double value, again, bound;

    if (!redlane_number_parse_double(text, size, &value)) {
        return;
    }
    require(!isnan(value), "no score is NaN");
    size = redlane_number_format_double(out, value);
    require(size > 0 && size <= sizeof(out), "a score's text fits");
    require(redlane_number_parse_double(out, size, &again) && again == value,
            "a score comes back");
    require(redlane_number_parse_bound(out, size, &bound) && bound == value,
            "a score is a bound");
}

static void
check_long_double(const char *text, size_t size)
{
    static char out[REDLANE_LONG_DOUBLE_TEXT];
    long double value, again;

    if (!redlane_number_parse_long_double(text, size, &value)) {
        return;
    }
    require(!isnan(value), "no amount is NaN");
    if (isinf(value)) {
        return;
    }
    size = redlane_number_format_long_double(out, value);
    require(size > 0 && size <= sizeof(out), "an amount's text fits");
    require(!memchr(out, 'e', size) && !memchr(out, ',', size), "plain digits");
    if (size < sizeof(out) - 32) {
        require(redlane_number_parse_long_double(out, size, &again) &&
                    fabsl(again - value) <= 1e-17L + fabsl(value) * 1e-18L,
                "an amount comes back");
    }
}

static void
check_numbers(const char *text, size_t size)
{
    double value;

    check_int64(text, size);
    check_double(text, size);
    check_long_double(text, size);
    if (redlane_number_parse_bound(text, size, &value)) {
        require(!isnan(value), "no bound is NaN");
    }
}

/* The row of a name in the other case is the same row. */
static void
check_case(const RedlaneArg *name, const RedlaneCommand *row)
{
    char *other = malloc(name->size + 1);

    require(other != NULL, "memory");
    for (size_t i = 0; i < name->size; i++) {
        char byte = name->data[i];
        bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');

        other[i] = letter ? (char)(byte ^ 0x20) : byte;
    }
    require(redlane_command_find(other, name->size) == row, "case makes no difference");
    free(other);
}

static void
check_vector(const RedlaneVector *vector)
{
    const RedlaneCommand *row = vector->command;
    const char *instead = redlane_command_refusal(vector);
    int64_t ns = -1;
    bool blocks = redlane_command_block_ns(vector, &ns);

    if (row == &REDLANE_COMMAND_UNKNOWN) {
        require(!instead && !blocks && row->flags == 0,
                "nothing is known of a stranger");
    }
    else {
        require(strlen(row->name) == vector->argv[0].size, "a row bears its name");
        require(!(row->flags & REDLANE_COMMAND_READ) ||
                    !(row->flags & REDLANE_COMMAND_WRITE),
                "what may be sent twice does not write");
    }
    require(!instead || *instead, "a refusal names what to use");
    require(!instead || row->kind != REDLANE_COMMAND_BLOCKING,
            "what blocks has its own connection");
    require((row->kind == REDLANE_COMMAND_STATEFUL) <= (instead != NULL),
            "a stateful command is refused");
    require(blocks <= (row->kind == REDLANE_COMMAND_BLOCKING), "only these block");
    require(!blocks || ns >= 0, "a block lasts");
    (void)redlane_command_arity_fits(vector);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    RedlaneArg argv[ARGUMENTS];
    RedlaneVector vector = {.argv = argv};

    while (size > 0 && vector.argc < ARGUMENTS) {
        size_t length = data[0] < size - 1 ? data[0] : size - 1;

        argv[vector.argc].data = (const char *)data + 1;
        argv[vector.argc].size = length;
        check_numbers(argv[vector.argc].data, length);
        vector.argc++;
        data += 1 + length;
        size -= 1 + length;
    }
    if (vector.argc == 0) {
        return 0;
    }
    vector.command = redlane_command_find(argv[0].data, argv[0].size);
    check_case(&argv[0], vector.command);
    check_vector(&vector);
    return 0;
}
