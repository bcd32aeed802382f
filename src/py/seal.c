/* Seals. Lock: the GIL. */
#include "py/seal.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "py/state.h"

#define KEY_MIN 16

/* Larger data is hashed without the GIL: some 100 µs. */
#define NOGIL_SIZE ((size_t)64 << 10)

static const char label[] = "redlane seal 1"; /* its NUL is part of what is sealed */
static const char id_label[] = "redlane key id";

typedef struct {
    unsigned char *data; /* OPENSSL_malloc'd */
    size_t size;
    uint32_t id;
} Key;

struct RedlaneSeal {
    EVP_MAC *algorithm;
    EVP_MAC_CTX *context; /* used under the GIL: 0.8 us a value against 2.2 us for a
                             new one each time */
    size_t count;
    Key keys[];
};

typedef struct {
    const void *data;
    size_t size;
} Part;

static EVP_MAC_CTX *
new_context(EVP_MAC *algorithm, const Key *key)
{
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(algorithm);

    if (context && EVP_MAC_init(context, key->data, key->size, params) != 1) {
        EVP_MAC_CTX_free(context);
        context = NULL;
    }
    return context;
}

/* With a context that was made for any of the keys. Touches no Python. */
static bool
hash_parts_nogil(EVP_MAC_CTX *context, const Key *key, const Part *parts, size_t count,
                 unsigned char result[REDLANE_SEAL_SIZE])
{
    size_t written = 0;
    bool done = context && EVP_MAC_init(context, key->data, key->size, NULL) == 1;

    for (size_t i = 0; done && i < count; i++) {
        done = EVP_MAC_update(context, parts[i].data, parts[i].size) == 1;
    }
    return done && EVP_MAC_final(context, result, &written, REDLANE_SEAL_SIZE) == 1 &&
           written == REDLANE_SEAL_SIZE;
}

/* RAISES_NEG */
static int
hash_value(const RedlaneSeal *seal, const Key *key, RedlaneArg name, const char *data,
           size_t size, unsigned char result[REDLANE_SEAL_SIZE])
{
    unsigned char name_size[8];
    const Part parts[] = {{label, sizeof(label)},
                          {name_size, sizeof(name_size)},
                          {name.data, name.size},
                          {data, size}};
    bool done;

    for (unsigned i = 0; i < sizeof(name_size); i++) {
        name_size[i] = (unsigned char)((uint64_t)name.size >> (56 - 8 * i));
    }
    if (size <= NOGIL_SIZE) {
        done = hash_parts_nogil(seal->context, key, parts, 4, result);
    }
    else {
        EVP_MAC_CTX *context;

        Py_BEGIN_ALLOW_THREADS
        context = new_context(seal->algorithm, key);
        done = hash_parts_nogil(context, key, parts, 4, result);
        EVP_MAC_CTX_free(context);
        Py_END_ALLOW_THREADS
    }
    if (!done) {
        (void)PyErr_NoMemory(); /* nothing else can fail once the seal is made */
        return -1;
    }
    return 0;
}

/* Copies one key and makes its id. RAISES_NEG */
static int
take_key(RedlaneState *state, RedlaneSeal *seal, PyObject *given)
{
    const Part part = {id_label, sizeof(id_label)};
    unsigned char hash[REDLANE_SEAL_SIZE];
    Key *key = &seal->keys[seal->count];
    const char *data = NULL;
    Py_ssize_t size = 0;

    if (PyBytes_Check(given)) {
        data = PyBytes_AS_STRING(given);
        size = PyBytes_GET_SIZE(given);
    }
    else if (PyUnicode_Check(given)) {
        data = PyUnicode_AsUTF8AndSize(given, &size);
        if (!data) {
            PyErr_Clear(); /* a UnicodeEncodeError holds the text */
            PyErr_SetString(state->ConfigurationError,
                            "seal: a key is no text that UTF-8 can write");
            return -1;
        }
    }
    else {
        PyErr_Format(PyExc_TypeError, "seal: a key must be bytes or str, not %.100s",
                     Py_TYPE(given)->tp_name);
        return -1;
    }
    if (size < KEY_MIN) {
        PyErr_Format(state->ConfigurationError,
                     "seal: a key must have at least %d bytes, not %zd; "
                     "secrets.token_bytes(32) makes a good one",
                     KEY_MIN, size);
        return -1;
    }
    key->data = OPENSSL_malloc((size_t)size);
    if (!key->data) {
        (void)PyErr_NoMemory();
        return -1;
    }
    memcpy(key->data, data, (size_t)size);
    key->size = (size_t)size;
    seal->count++;
    if (!seal->context) {
        seal->context = new_context(seal->algorithm, key);
    }
    if (!hash_parts_nogil(seal->context, key, &part, 1, hash)) {
        PyErr_SetString(state->ConfigurationError, "seal: OpenSSL has no HMAC-SHA256");
        return -1;
    }
    key->id = (uint32_t)hash[0] << 24 | (uint32_t)hash[1] << 16 |
              (uint32_t)hash[2] << 8 | hash[3];
    return 0;
}

/* A tuple of the keys: what runs while they are copied cannot change it. */
static PyObject *
list_keys(PyObject *keys)
{
    if (PyBytes_Check(keys) || PyUnicode_Check(keys)) {
        return PyTuple_Pack(1, keys);
    }
    if (PyList_Check(keys) || PyTuple_Check(keys)) {
        return PySequence_Tuple(keys);
    }
    PyErr_Format(PyExc_TypeError,
                 "seal must be a key (bytes or str) or a list of keys, not %.100s",
                 Py_TYPE(keys)->tp_name);
    return NULL;
}

RedlaneSeal *
redlane_seal_new(RedlaneState *state, PyObject *keys)
{
    PyObject *tuple = list_keys(keys);
    RedlaneSeal *seal = NULL;
    Py_ssize_t count;

    if (!tuple) {
        return NULL;
    }
    count = PyTuple_GET_SIZE(tuple);
    if (count == 0) {
        PyErr_SetString(state->ConfigurationError, "seal: there is no key in the list");
        goto error;
    }
    seal = PyMem_Calloc(1, sizeof(*seal) + (size_t)count * sizeof(Key));
    if (!seal) {
        (void)PyErr_NoMemory();
        goto error;
    }
    seal->algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
    if (!seal->algorithm) {
        PyErr_SetString(state->ConfigurationError, "seal: OpenSSL has no HMAC");
        goto error;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        if (take_key(state, seal, PyTuple_GET_ITEM(tuple, i)) < 0) {
            goto error;
        }
    }
    Py_DECREF(tuple);
    return seal;
error:
    redlane_seal_free(seal);
    Py_DECREF(tuple);
    return NULL;
}

void
redlane_seal_free(RedlaneSeal *seal)
{
    if (!seal) {
        return;
    }
    for (size_t i = 0; i < seal->count; i++) {
        OPENSSL_clear_free(seal->keys[i].data, seal->keys[i].size);
    }
    EVP_MAC_CTX_free(seal->context);
    EVP_MAC_free(seal->algorithm);
    PyMem_Free(seal);
}

uint32_t
redlane_seal_key_id(const RedlaneSeal *seal)
{
    return seal->keys[0].id;
}

int
redlane_seal_sign(const RedlaneSeal *seal, RedlaneArg key, const char *data,
                  size_t size, char result[REDLANE_SEAL_SIZE])
{
    return hash_value(seal, &seal->keys[0], key, data, size, (unsigned char *)result);
}

int
redlane_seal_verify(const RedlaneSeal *seal, uint32_t key_id, RedlaneArg key,
                    const char *data, size_t size, const char found[REDLANE_SEAL_SIZE])
{
    unsigned char wanted[REDLANE_SEAL_SIZE];

    for (size_t i = 0; i < seal->count; i++) {
        if (seal->keys[i].id != key_id) {
            continue;
        }
        if (hash_value(seal, &seal->keys[i], key, data, size, wanted) < 0) {
            return -1;
        }
        if (CRYPTO_memcmp(wanted, found, sizeof(wanted)) == 0) {
            return 1;
        }
    }
    return 0;
}
