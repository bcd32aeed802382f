/* Envelopes: reading and writing the header. */
#include "core/envelope.h"

#include <string.h>

#define HEAD_SIZE (REDLANE_MARK_SIZE + 3) /* mark, kind, version, fields */

/* Deflate makes at most 1032 bytes of one; a little more for what stands round it. */
#define DEFLATE_MOST 1040

static char *
put_number(char *to, uint64_t number, unsigned bytes)
{
    for (unsigned i = bytes; i-- > 0;) {
        *to++ = (char)(unsigned char)(number >> (8 * i));
    }
    return to;
}

/* What is left to be read; once `bad`, it stays so and gives zeros. */
typedef struct {
    const char *at, *end;
    bool bad;
} Reader;

static bool
has_bytes(Reader *reader, size_t bytes)
{
    if ((size_t)(reader->end - reader->at) < bytes) {
        reader->bad = true;
    }
    return !reader->bad;
}

static uint64_t
take_number(Reader *reader, unsigned bytes)
{
    uint64_t number = 0;

    if (!has_bytes(reader, bytes)) {
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++) {
        number = number << 8 | (unsigned char)*reader->at++;
    }
    return number;
}

/* A time: 63 bits. */
static int64_t
take_time(Reader *reader)
{
    uint64_t number = take_number(reader, 8);

    if (number > INT64_MAX) {
        reader->bad = true;
        return 0;
    }
    return (int64_t)number;
}

static void
take_tags(Reader *reader, RedlaneEnvelope *envelope)
{
    envelope->tag_count = (size_t)take_number(reader, 1);
    envelope->tag_data = reader->at;
    if (envelope->tag_count == 0 || envelope->tag_count > REDLANE_ENVELOPE_TAGS_MAX) {
        reader->bad = true;
    }
    for (size_t i = 0; i < envelope->tag_count; i++) {
        size_t size = (size_t)take_number(reader, 1);

        if (size == 0 || !has_bytes(reader, size + 8)) {
            reader->bad = true;
            return;
        }
        reader->at += size + 8;
    }
    envelope->tag_data_size = (size_t)(reader->at - envelope->tag_data);
}

/* `content_size` is known by now. */
static bool
is_sane_compression(const RedlaneEnvelope *envelope, uint64_t method)
{
    return method == REDLANE_COMPRESSION_ZLIB && envelope->raw_size > 0 &&
           envelope->raw_size <= REDLANE_ENVELOPE_RAW_MAX &&
           envelope->raw_size / DEFLATE_MOST <= envelope->content_size;
}

/* Everything behind the kind. */
static RedlaneStored
read_header(Reader *reader, RedlaneEnvelope *envelope)
{
    uint64_t version = take_number(reader, 1), method = 0;
    size_t seal_size = 0;

    envelope->fields = (unsigned)take_number(reader, 1);
    if (version != REDLANE_ENVELOPE_VERSION || envelope->fields == 0 ||
        envelope->fields & ~(unsigned)REDLANE_ENVELOPE_ALL) {
        return REDLANE_STORED_BAD;
    }
    if (envelope->fields & REDLANE_ENVELOPE_EXPIRES) {
        envelope->expires_at = take_time(reader);
    }
    if (envelope->fields & REDLANE_ENVELOPE_STORED) {
        envelope->stored_at = take_time(reader);
    }
    if (envelope->fields & REDLANE_ENVELOPE_COMPUTE) {
        envelope->compute_us = take_time(reader);
    }
    if (envelope->fields & REDLANE_ENVELOPE_NONCE) {
        envelope->nonce = take_number(reader, 8);
    }
    if (envelope->fields & REDLANE_ENVELOPE_TAGS) {
        take_tags(reader, envelope);
    }
    if (envelope->fields & REDLANE_ENVELOPE_COMPRESSED) {
        method = take_number(reader, 1);
        envelope->compression = REDLANE_COMPRESSION_ZLIB;
        envelope->raw_size = take_number(reader, 8);
    }
    if (envelope->fields & REDLANE_ENVELOPE_SEALED) {
        envelope->format = (uint8_t)take_number(reader, 1);
        envelope->key_id = (uint32_t)take_number(reader, 4);
        seal_size = REDLANE_ENVELOPE_SEAL_SIZE;
    }
    if (!has_bytes(reader, seal_size)) {
        return REDLANE_STORED_BAD;
    }
    envelope->content = reader->at;
    envelope->content_size = (size_t)(reader->end - reader->at) - seal_size;
    return envelope->fields & REDLANE_ENVELOPE_COMPRESSED &&
                   !is_sane_compression(envelope, method)
               ? REDLANE_STORED_BAD
               : REDLANE_STORED_ENVELOPE;
}

RedlaneStored
redlane_envelope_read(const char *data, size_t size, RedlaneEnvelope *envelope)
{
    Reader reader;
    RedlaneStored stored;

    *envelope = (RedlaneEnvelope){.content = data, .content_size = size};
    if (size < REDLANE_MARK_SIZE ||
        memcmp(data, REDLANE_MARK, REDLANE_MARK_SIZE) != 0) {
        return REDLANE_STORED_BARE;
    }
    if (size == REDLANE_MARK_SIZE) {
        return REDLANE_STORED_BAD;
    }
    reader = (Reader){data + REDLANE_MARK_SIZE + 1, data + size, false};
    switch (data[REDLANE_MARK_SIZE]) {
    case REDLANE_MARK_LEASE:
        return REDLANE_STORED_LEASE;
    case REDLANE_MARK_PLAIN:
        envelope->content = reader.at;
        envelope->content_size = size - REDLANE_MARK_SIZE - 1;
        return REDLANE_STORED_PLAIN;
    case REDLANE_MARK_ENVELOPE:
        stored = read_header(&reader, envelope);
        return reader.bad ? REDLANE_STORED_BAD : stored;
    default:
        return REDLANE_STORED_BAD;
    }
}

bool
redlane_envelope_next_tag(const RedlaneEnvelope *envelope, size_t *at,
                          RedlaneEnvelopeTag *tag)
{
    Reader reader;

    if (*at >= envelope->tag_data_size) {
        return false;
    }
    reader = (Reader){envelope->tag_data + *at,
                      envelope->tag_data + envelope->tag_data_size, false};
    tag->id_size = (size_t)take_number(&reader, 1);
    tag->id = reader.at;
    reader.at += tag->id_size; /* read has seen that all are whole */
    tag->generation = take_number(&reader, 8);
    *at = (size_t)(reader.at - envelope->tag_data);
    return true;
}

/* Bytes of the tags, or 0. */
static size_t
measure_tags(const RedlaneEnvelope *envelope)
{
    size_t size = 1;

    if (envelope->tag_count == 0 || envelope->tag_count > REDLANE_ENVELOPE_TAGS_MAX) {
        return 0;
    }
    for (size_t i = 0; i < envelope->tag_count; i++) {
        size_t id_size = envelope->tags[i].id_size;

        if (id_size == 0 || id_size > REDLANE_ENVELOPE_TAG_ID_MAX) {
            return 0;
        }
        size += 1 + id_size + 8;
    }
    return size;
}

static bool
is_in_bounds(const RedlaneEnvelope *envelope)
{
    unsigned fields = envelope->fields;

    return fields && !(fields & ~(unsigned)REDLANE_ENVELOPE_ALL) &&
           envelope->expires_at >= 0 && envelope->stored_at >= 0 &&
           envelope->compute_us >= 0 &&
           (!(fields & REDLANE_ENVELOPE_COMPRESSED) ||
            is_sane_compression(envelope, (uint64_t)envelope->compression));
}

size_t
redlane_envelope_size(const RedlaneEnvelope *envelope)
{
    size_t size = HEAD_SIZE, tags = 0;

    if (!is_in_bounds(envelope)) {
        return 0;
    }
    if (envelope->fields & REDLANE_ENVELOPE_TAGS) {
        tags = measure_tags(envelope);
        if (tags == 0) {
            return 0;
        }
    }
    size += envelope->fields & REDLANE_ENVELOPE_EXPIRES ? 8 : 0;
    size += envelope->fields & REDLANE_ENVELOPE_STORED ? 8 : 0;
    size += envelope->fields & REDLANE_ENVELOPE_COMPUTE ? 8 : 0;
    size += envelope->fields & REDLANE_ENVELOPE_NONCE ? 8 : 0;
    size += envelope->fields & REDLANE_ENVELOPE_COMPRESSED ? 9 : 0;
    size +=
        envelope->fields & REDLANE_ENVELOPE_SEALED ? 5 + REDLANE_ENVELOPE_SEAL_SIZE : 0;
    return size + tags + envelope->content_size;
}

static char *
put_tags(char *to, const RedlaneEnvelope *envelope)
{
    to = put_number(to, envelope->tag_count, 1);
    for (size_t i = 0; i < envelope->tag_count; i++) {
        const RedlaneEnvelopeTag *tag = &envelope->tags[i];

        to = put_number(to, tag->id_size, 1);
        memcpy(to, tag->id, tag->id_size);
        to = put_number(to + tag->id_size, tag->generation, 8);
    }
    return to;
}

char *
redlane_envelope_write(const RedlaneEnvelope *envelope, char *to)
{
    unsigned fields = envelope->fields;

    memcpy(to, REDLANE_MARK, REDLANE_MARK_SIZE);
    to += REDLANE_MARK_SIZE;
    *to++ = REDLANE_MARK_ENVELOPE;
    *to++ = REDLANE_ENVELOPE_VERSION;
    *to++ = (char)fields;
    if (fields & REDLANE_ENVELOPE_EXPIRES) {
        to = put_number(to, (uint64_t)envelope->expires_at, 8);
    }
    if (fields & REDLANE_ENVELOPE_STORED) {
        to = put_number(to, (uint64_t)envelope->stored_at, 8);
    }
    if (fields & REDLANE_ENVELOPE_COMPUTE) {
        to = put_number(to, (uint64_t)envelope->compute_us, 8);
    }
    if (fields & REDLANE_ENVELOPE_NONCE) {
        to = put_number(to, envelope->nonce, 8);
    }
    if (fields & REDLANE_ENVELOPE_TAGS) {
        to = put_tags(to, envelope);
    }
    if (fields & REDLANE_ENVELOPE_COMPRESSED) {
        *to++ = (char)envelope->compression;
        to = put_number(to, envelope->raw_size, 8);
    }
    if (fields & REDLANE_ENVELOPE_SEALED) {
        to = put_number(to, envelope->format, 1);
        to = put_number(to, envelope->key_id, 4);
    }
    if (envelope->content_size) {
        memcpy(to, envelope->content, envelope->content_size);
    }
    return to + envelope->content_size;
}
