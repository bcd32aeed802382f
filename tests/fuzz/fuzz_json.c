/* JSON strings: what is written is a JSON string, holds nothing escaped that need not
 * be, and read back is the input. */
#include <string.h>

#include "core/json.h"
#include "fuzz.h"

static unsigned
read_hex(const char *digits)
{
    unsigned value = 0;

    for (int i = 0; i < 4; i++) {
        const char *known = "0123456789abcdef";
        const char *digit = strchr(known, digits[i]);

        require(digits[i] && digit, "four lower-case hex digits");
        value = value * 16 + (unsigned)(digit - known);
    }
    return value;
}

/* The byte that an escape at `*at` stands for; moves behind it. */
static char
read_escape(const char **at, const char *end)
{
    static const char letters[] = "\"\\bfnrt";
    static const char bytes[] = "\"\\\b\f\n\r\t";
    const char *letter;
    unsigned value;

    (*at)++;
    require(*at < end, "something behind the backslash");
    if (**at != 'u') {
        letter = memchr(letters, **at, sizeof(letters) - 1);
        require(letter != NULL, "a known escape");
        (*at)++;
        return bytes[letter - letters];
    }
    require(end - *at >= 5, "a whole \\u escape");
    value = read_hex(*at + 1);
    require(value < 0x20 && !memchr(bytes, (int)value, sizeof(bytes) - 1),
            "\\u only for what has no short form");
    *at += 5;
    return (char)value;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    RedlaneBuffer buffer = {0};
    const char *at, *end;
    size_t read = 0;

    if (redlane_buffer_append_byte(&buffer, 'x') < 0 ||
        redlane_json_append_string(&buffer, (const char *)data, size) < 0) {
        redlane_buffer_free(&buffer);
        return 0;
    }
    require(buffer.size >= size + 3 && buffer.data[0] == 'x' && buffer.data[1] == '"' &&
                buffer.data[buffer.size - 1] == '"',
            "what was there stays, and quotes stand round");
    at = buffer.data + 2;
    end = buffer.data + buffer.size - 1;
    while (at < end) {
        char byte = *at;

        require((unsigned char)byte >= 0x20 && byte != '"', "no byte JSON forbids");
        if (byte == '\\') {
            byte = read_escape(&at, end);
        }
        else {
            at++;
        }
        require(read < size && (char)data[read] == byte, "the input comes back");
        read++;
    }
    require(read == size, "the whole input comes back");
    redlane_buffer_free(&buffer);
    return 0;
}
