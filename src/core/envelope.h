/* The envelope: a header before a value's bytes, where something needs one. A value
 * that needs none is stored as it is.
 *
 *   mark 'E' │ version │ fields │ each field that is there │ content │ seal
 *      4     │    1    │ 1, bits │ in the order below         │    …    │ 32 or 0
 *
 *   expires_at 8, stored_at 8, compute_us 8, nonce 8, tags 1 + n × (1 + id + 8),
 *   compression 1 + 8, format 1 + key id 4
 *
 * Numbers are big-endian. One value has one form: no field stands empty, none twice.
 * What is read may have been written by anybody: all else is REDLANE_STORED_BAD, and
 * nothing behind the end is looked at.
 *
 * The seal is over all that stands before it (and the key); who seals and checks it is
 * the caller. No lock, no GIL, no allocation. */
#ifndef REDLANE_CORE_ENVELOPE_H
#define REDLANE_CORE_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/script.h"

#define REDLANE_ENVELOPE_VERSION 1
#define REDLANE_ENVELOPE_SEAL_SIZE 32 /* HMAC-SHA256 */
#define REDLANE_ENVELOPE_TAGS_MAX 64
#define REDLANE_ENVELOPE_TAG_ID_MAX 255
/* No content claims to be more than this when it is inflated. */
#define REDLANE_ENVELOPE_RAW_MAX ((uint64_t)512 << 20)

/* What a header may say, as bits. */
enum {
    REDLANE_ENVELOPE_EXPIRES = 1,
    REDLANE_ENVELOPE_STORED = 2,
    REDLANE_ENVELOPE_COMPUTE = 4,
    REDLANE_ENVELOPE_TAGS = 8,
    REDLANE_ENVELOPE_COMPRESSED = 16,
    REDLANE_ENVELOPE_SEALED = 32,
    REDLANE_ENVELOPE_NONCE = 64,
    REDLANE_ENVELOPE_ALL = 127
};

typedef enum {
    REDLANE_COMPRESSION_ZLIB = 1, /* RFC 1950 */
} RedlaneCompression;

/* The generation that a tag (or namespace) had before the value was computed. */
typedef struct {
    const char *id; /* 1 to 255 bytes, any */
    size_t id_size;
    uint64_t generation;
} RedlaneEnvelopeTag;

/* All pointers are BORROWED. */
typedef struct {
    unsigned fields;                /* which of these are there */
    int64_t expires_at;             /* Unix ms: older than wanted from then on */
    int64_t stored_at;              /* Unix ms */
    int64_t compute_us;             /* how long its computation took */
    uint64_t nonce;                 /* random: no two stored values have the same */
    const RedlaneEnvelopeTag *tags; /* to write; read them by next_tag */
    size_t tag_count;               /* 1 to 64 */
    RedlaneCompression compression;
    uint64_t raw_size; /* of the content, inflated */
    uint8_t format;    /* of the sealed content: which serializer reads it */
    uint32_t key_id;   /* which key sealed it */
    const char *content;
    size_t content_size;
    const char *tag_data; /* both set by read */
    size_t tag_data_size;
} RedlaneEnvelope;

/* What a stored string is. */
typedef enum {
    REDLANE_STORED_BARE,     /* no mark: the value's own bytes */
    REDLANE_STORED_PLAIN,    /* marked as such: the content is the value's own bytes */
    REDLANE_STORED_LEASE,    /* a computation is under way */
    REDLANE_STORED_ENVELOPE, /* a header and a content */
    REDLANE_STORED_BAD,
} RedlaneStored;

/* Fills `envelope` where there is content: fields is 0 for a bare or plain value. The
 * seal, where the fields say that there is one, stands behind the content. */
RedlaneStored redlane_envelope_read(const char *data, size_t size,
                                    RedlaneEnvelope *envelope);

/* Of an envelope that was read: the tag at `*at` (0 at first); false behind the last.
 */
bool redlane_envelope_next_tag(const RedlaneEnvelope *envelope, size_t *at,
                               RedlaneEnvelopeTag *tag);

/* Bytes of the whole, with content and seal; 0 where it cannot be written: without a
 * field, or one is out of its bounds. */
size_t redlane_envelope_size(const RedlaneEnvelope *envelope);

/* Writes header and content to `to`, which has room for that size; returns where the
 * seal, if there is one, must be put. */
char *redlane_envelope_write(const RedlaneEnvelope *envelope, char *to);

#endif
