#include "core/json.h"

#include <stdio.h>

#include "harness.h"

static void
check_json(const char *text, size_t size, const char *wanted, size_t wanted_size)
{
    RedlaneBuffer buffer = {0};

    CHECK_INTEGER(redlane_json_append_string(&buffer, text, size), 0);
    check_bytes(buffer.data, buffer.size, wanted, wanted_size, text, __FILE__,
                __LINE__);
    redlane_buffer_free(&buffer);
}

#define CHECK_JSON(text, wanted) \
    check_json((text), sizeof(text) - 1, (wanted), sizeof(wanted) - 1)

/* Each special byte at each place of a text of each size round the block sizes. */
static void
test_places(void)
{
    static const char *const escaped[256] = {
        [0x00] = "\\u0000", [0x08] = "\\b",  [0x09] = "\\t", [0x0a] = "\\n",
        [0x0b] = "\\u000b", [0x0c] = "\\f",  [0x0d] = "\\r", [0x1f] = "\\u001f",
        ['"'] = "\\\"",     ['\\'] = "\\\\", [0x20] = " ",   [0x7f] = "\x7f",
        [0x80] = "\x80",    [0xff] = "\xff", ['!'] = "!",    ['#'] = "#",
        ['['] = "[",        [']'] = "]"};

    for (size_t size = 1; size < 40; size++) {
        for (size_t place = 0; place < size; place++) {
            for (int byte = 0; byte < 256; byte++) {
                char text[40], wanted[60];
                int wanted_size;

                if (!escaped[byte]) {
                    continue;
                }
                memset(text, 'x', size);
                text[place] = (char)byte;
                wanted_size =
                    snprintf(wanted, sizeof(wanted), "\"%.*s%s%.*s\"", (int)place,
                             "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", escaped[byte],
                             (int)(size - place - 1),
                             "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
                check_json(text, size, wanted, (size_t)wanted_size);
            }
        }
    }
}

void
test_json(void)
{
    RedlaneBuffer buffer = {0};

    CHECK_JSON("", "\"\"");
    CHECK_JSON("plain", "\"plain\"");
    CHECK_JSON("\xe2\x80\xa8 \xf0\x9f\x98\x80 \xc3\xa9",
               "\"\xe2\x80\xa8 \xf0\x9f\x98\x80 \xc3\xa9\"");
    CHECK_JSON("</script>/", "\"</script>/\"");
    test_places();

    /* behind what is there, and many escapes in a small buffer */
    CHECK_INTEGER(redlane_buffer_append_literal(&buffer, "["), 0);
    CHECK_INTEGER(redlane_json_append_string(&buffer, "\1\2\3", 3), 0);
    CHECK_BYTES(buffer.data, buffer.size, "[\"\\u0001\\u0002\\u0003\"");
    for (int i = 0; i < 500; i++) {
        CHECK_INTEGER(redlane_json_append_string(&buffer, "\1\1\1\1\1\1\1\1\1", 9), 0);
    }
    CHECK_INTEGER(buffer.size, 21 + 500 * 56);
    CHECK(buffer.size <= buffer.capacity);
    CHECK_INTEGER(redlane_json_append_string(&buffer, "x", SIZE_MAX), -1);
    CHECK_INTEGER(buffer.size, 21 + 500 * 56);
    redlane_buffer_free(&buffer);
}
