/* Seals: HMAC-SHA256 by OpenSSL, so that only who has a key can write a value that is
 * read. The algorithm is fixed: nothing in a stored value chooses it.
 *
 *   HMAC(key, "redlane seal 1" │ NUL │ size of the cache key, 8 bytes │ cache key │
 * data)
 *
 * Under the GIL, which is given up for large data: that must not change meanwhile (the
 * content of bytes does not), and the seal must live on. Runs no Python code. */
#ifndef REDLANE_PY_SEAL_H
#define REDLANE_PY_SEAL_H

#include "core/envelope.h"
#include "core/vector.h"
#include "py/python.h"

#define REDLANE_SEAL_SIZE REDLANE_ENVELOPE_SEAL_SIZE

typedef struct RedlaneSeal RedlaneSeal;

/* `keys` is one str or bytes, or a list or tuple of them: the first signs, all verify.
 * NULL with a TypeError or ConfigurationError, which never shows a key. */
RedlaneSeal *redlane_seal_new(RedlaneState *state, PyObject *keys);

/* Wipes the keys. `seal` may be NULL. */
void redlane_seal_free(RedlaneSeal *seal);

/* Which key signs: a few bits of a hash of it, that tell keys apart. */
uint32_t redlane_seal_key_id(const RedlaneSeal *seal);

/* Writes the seal of `data` under a cache key. RAISES_NEG */
int redlane_seal_sign(const RedlaneSeal *seal, RedlaneArg key, const char *data,
                      size_t size, char result[REDLANE_SEAL_SIZE]);

/* Whether `found` is the seal by one of the keys; compared in constant time. RAISES_NEG
 */
int redlane_seal_verify(const RedlaneSeal *seal, uint32_t key_id, RedlaneArg key,
                        const char *data, size_t size,
                        const char found[REDLANE_SEAL_SIZE]);

#endif
