/* SHA-256 by OpenSSL. Lock: the GIL; nothing here runs Python code. */
#include "py/digest.h"

#include <openssl/evp.h>

#include "py/state.h"

/* A scratch buffer that grew beyond this is given back. */
#define SCRATCH_KEEP ((size_t)64 << 10)

typedef struct {
    EVP_MD *algorithm;
    EVP_MD_CTX *context;
    RedlaneBuffer scratch;
} Digest;

static void
free_digest(Digest *digest)
{
    EVP_MD_CTX_free(digest->context);
    EVP_MD_free(digest->algorithm);
    redlane_buffer_free(&digest->scratch);
    PyMem_Free(digest);
}

static Digest *
get_digest(RedlaneState *state)
{
    Digest *digest = state->digest;

    if (likely(digest != NULL)) {
        return digest;
    }
    digest = PyMem_Calloc(1, sizeof(*digest));
    if (!digest) {
        (void)PyErr_NoMemory();
        return NULL;
    }
    digest->algorithm = EVP_MD_fetch(NULL, "SHA256", NULL);
    digest->context = EVP_MD_CTX_new();
    if (!digest->algorithm || !digest->context) {
        free_digest(digest);
        PyErr_SetString(PyExc_RuntimeError, "OpenSSL has no SHA-256");
        return NULL;
    }
    state->digest = digest;
    return digest;
}

RedlaneBuffer *
redlane_digest_scratch(RedlaneState *state)
{
    Digest *digest = get_digest(state);

    if (!digest) {
        return NULL;
    }
    if (digest->scratch.capacity > SCRATCH_KEEP) {
        redlane_buffer_free(&digest->scratch);
    }
    digest->scratch.size = 0;
    return &digest->scratch;
}

int
redlane_digest_hex(RedlaneState *state, const char *data, size_t size,
                   char hex[REDLANE_DIGEST_HEX])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char bytes[EVP_MAX_MD_SIZE];
    Digest *digest = get_digest(state);

    if (!digest) {
        return -1;
    }
    if (EVP_DigestInit_ex2(digest->context, digest->algorithm, NULL) != 1 ||
        EVP_DigestUpdate(digest->context, data, size) != 1 ||
        EVP_DigestFinal_ex(digest->context, bytes, NULL) != 1) {
        PyErr_SetString(PyExc_RuntimeError, "OpenSSL could not make a SHA-256");
        return -1;
    }
    for (int i = 0; i < REDLANE_DIGEST_SIZE; i++) {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    return 0;
}

void
redlane_digest_clear(RedlaneState *state)
{
    if (state->digest) {
        free_digest(state->digest);
        state->digest = NULL;
    }
}
