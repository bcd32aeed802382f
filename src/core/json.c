/* Bytes are copied in blocks and looked at on the way; only a block that holds a byte
 * to escape is taken apart. Blocks are stored before they are known to be clean, so the
 * buffer keeps room for all that is left, one block and the closing quote. */
#include "core/json.h"

#include <stdint.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define SLACK 17 /* a block and the closing quote */
#define LONGEST_ESCAPE 6

/* What stands behind the backslash: a letter, 'u' for \u00xx, 0 for no escape. */
static const char escapes[256] = {
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', 'b',         't',           'n', 'u',
    'f', 'r', 'u', 'u', 'u', 'u', 'u', 'u', 'u',         'u',           'u', 'u',
    'u', 'u', 'u', 'u', 'u', 'u', 'u', 'u', ['"'] = '"', ['\\'] = '\\',
};

/* The number of clean bytes at the start of the block that was copied, or the whole
 * block's size. */
#if defined(__SSE2__)
#define BLOCK 16

static inline size_t
copy_block(char *out, const char *text)
{
    __m128i block = _mm_loadu_si128((const __m128i *)(const void *)text);
    __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(block, _mm_set1_epi8(0x1f)), block);
    __m128i quote = _mm_cmpeq_epi8(block, _mm_set1_epi8('"'));
    __m128i backslash = _mm_cmpeq_epi8(block, _mm_set1_epi8('\\'));
    int mask = _mm_movemask_epi8(_mm_or_si128(_mm_or_si128(control, quote), backslash));

    _mm_storeu_si128((__m128i *)(void *)out, block);
    return mask ? (size_t)__builtin_ctz((unsigned)mask) : BLOCK;
}
#else
#define BLOCK 8
#define ONES UINT64_C(0x0101010101010101)
#define HIGHS UINT64_C(0x8080808080808080)

/* Non-zero when a byte of `word` is below `limit` (1 to 128). */
static inline uint64_t
has_below(uint64_t word, uint64_t limit)
{
    return (word - ONES * limit) & ~word & HIGHS;
}

static inline size_t
copy_block(char *out, const char *text)
{
    uint64_t word;
    size_t clean = 0;

    memcpy(&word, text, BLOCK);
    memcpy(out, &word, BLOCK);
    if (!(has_below(word, 0x20) | has_below(word ^ ONES * '"', 1) |
          has_below(word ^ ONES * '\\', 1))) {
        return BLOCK;
    }
    while (clean < BLOCK && !escapes[(unsigned char)text[clean]]) {
        clean++;
    }
    return clean;
}
#endif

static inline size_t
write_escape(char *out, unsigned char byte)
{
    static const char digits[] = "0123456789abcdef";

    out[0] = '\\';
    out[1] = escapes[byte];
    if (out[1] != 'u') {
        return 2;
    }
    out[2] = '0';
    out[3] = '0';
    out[4] = digits[byte >> 4];
    out[5] = digits[byte & 15];
    return 6;
}

int
redlane_json_append_string(RedlaneBuffer *buffer, const char *text, size_t size)
{
    size_t before = buffer->size;
    const char *end = text + size;

    if (size > SIZE_MAX / 2 ||
        redlane_buffer_reserve(buffer, size + LONGEST_ESCAPE + SLACK + 1) < 0) {
        return -1;
    }
    buffer->data[buffer->size++] = '"';
    while (text < end) {
        size_t clean = 0;

        if (end - text >= BLOCK) {
            clean = copy_block(buffer->data + buffer->size, text);
            buffer->size += clean;
            text += clean;
            if (clean == BLOCK) {
                continue;
            }
        }
        else if (!escapes[(unsigned char)*text]) {
            buffer->data[buffer->size++] = *text++;
            continue;
        }
        if (redlane_buffer_reserve(buffer,
                                   (size_t)(end - text) + LONGEST_ESCAPE + SLACK) < 0) {
            buffer->size = before;
            return -1;
        }
        buffer->size +=
            write_escape(buffer->data + buffer->size, (unsigned char)*text++);
    }
    buffer->data[buffer->size++] = '"';
    return 0;
}
