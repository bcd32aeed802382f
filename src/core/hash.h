/* A seeded 64-bit hash of bytes: the full 128-bit product of two words, folded, as the
 * multiply-and-fold family (wyhash, folded multiply) does it.
 *
 * The seed is random per table owner, so that no one outside can choose keys that meet
 * in one bucket. The top bits choose the bucket, so two rounds of folding end it. The
 * values differ from machine to machine: never store or send one. */
#ifndef REDLANE_CORE_HASH_H
#define REDLANE_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint64_t words[2]; /* from redlane_hash_seed: never both zero */
} RedlaneSeed;

/* Draws a seed from the system, or, if it gives none, from the clock and addresses. */
void redlane_hash_seed(RedlaneSeed *seed);

__extension__ typedef unsigned __int128 RedlaneWide;

static inline uint64_t
redlane_hash_fold(uint64_t left, uint64_t right)
{
    RedlaneWide product = (RedlaneWide)left * right;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t
redlane_hash_word(const char *data)
{
    uint64_t word;

    memcpy(&word, data, sizeof(word));
    return word;
}

static inline uint64_t
redlane_hash_half(const char *data)
{
    uint32_t half;

    memcpy(&half, data, sizeof(half));
    return half;
}

/* Odd constants with as many ones as zeros: digits of the fractions of sqrt(2), sqrt(3)
 * and sqrt(5). */
#define REDLANE_HASH_A UINT64_C(0x6a09e667f3bcc909)
#define REDLANE_HASH_B UINT64_C(0xbb67ae8584caa73b)
#define REDLANE_HASH_C UINT64_C(0x3c6ef372fe94f82b)

/* The hash of `size` bytes. */
static inline uint64_t
redlane_hash_bytes(const RedlaneSeed *seed, const char *data, size_t size)
{
    uint64_t state = seed->words[0] ^ REDLANE_HASH_A, first, last;
    size_t left = size;

    while (left > 16) {
        state = redlane_hash_fold(redlane_hash_word(data) ^ seed->words[1],
                                  redlane_hash_word(data + 8) ^ state);
        data += 16;
        left -= 16;
    }
    if (left >= 8) {
        first = redlane_hash_word(data);
        last = redlane_hash_word(data + left - 8);
    }
    else if (left >= 4) {
        first = redlane_hash_half(data);
        last = redlane_hash_half(data + left - 4);
    }
    else if (left) {
        first = (uint64_t)(unsigned char)data[0] |
                (uint64_t)(unsigned char)data[left / 2] << 8 |
                (uint64_t)(unsigned char)data[left - 1] << 16;
        last = 0;
    }
    else {
        first = last = 0;
    }
    state = redlane_hash_fold(first ^ seed->words[1] ^ REDLANE_HASH_B, last ^ state);
    return redlane_hash_fold(state ^ REDLANE_HASH_C,
                             (uint64_t)size ^ seed->words[1] ^ REDLANE_HASH_A);
}

#endif
