#include "core/envelope.h"

#include <string.h>

#include "harness.h"

#define MARK_E REDLANE_MARK "E\x01"

/* Reads a copy that ends where its array does: the sanitizers see what is read behind
 * it. */
static RedlaneStored
read_copy(const char *data, size_t size)
{
    char copy[size + 1];
    RedlaneEnvelope envelope;

    memcpy(copy + 1, data, size);
    return redlane_envelope_read(copy + 1, size, &envelope);
}

#define READ(text) read_copy((text), sizeof(text) - 1)

static void
test_kinds(void)
{
    RedlaneEnvelope envelope;

    CHECK_INTEGER(READ(""), REDLANE_STORED_BARE);
    CHECK_INTEGER(READ("{\"a\":1}"), REDLANE_STORED_BARE);
    CHECK_INTEGER(READ("\xffR"), REDLANE_STORED_BARE);
    CHECK_INTEGER(READ("\xffRM"), REDLANE_STORED_BARE);
    CHECK_INTEGER(READ(REDLANE_MARK), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(REDLANE_MARK "L"), REDLANE_STORED_LEASE);
    CHECK_INTEGER(READ(REDLANE_MARK "L0123456789abcdef"), REDLANE_STORED_LEASE);
    CHECK_INTEGER(READ(REDLANE_MARK "?x"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(REDLANE_MARK "P"), REDLANE_STORED_PLAIN);

    CHECK_INTEGER(redlane_envelope_read(REDLANE_MARK "P" REDLANE_MARK, 7, &envelope),
                  REDLANE_STORED_PLAIN);
    CHECK_BYTES(envelope.content, envelope.content_size, REDLANE_MARK);
    CHECK_INTEGER(redlane_envelope_read("bare", 4, &envelope), REDLANE_STORED_BARE);
    CHECK_BYTES(envelope.content, envelope.content_size, "bare");
    CHECK_INTEGER(envelope.fields, 0);
}

static void
test_bad_headers(void)
{
    CHECK_INTEGER(READ(REDLANE_MARK "E"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(REDLANE_MARK "E\x02\x01\0\0\0\0\0\0\0\1x"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(REDLANE_MARK "E\0\x01\0\0\0\0\0\0\0\1x"), REDLANE_STORED_BAD);
    /* no field, fields unknown */
    CHECK_INTEGER(READ(MARK_E "\0x"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x80x"), REDLANE_STORED_BAD);
    /* half a nonce, a whole one */
    CHECK_INTEGER(READ(MARK_E "\x40n0n0"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x40n0n0n0n0"), REDLANE_STORED_ENVELOPE);
    CHECK_INTEGER(READ(MARK_E "\x81\0\0\0\0\0\0\0\1x"), REDLANE_STORED_BAD);
    /* a time before 1970 */
    CHECK_INTEGER(READ(MARK_E "\x01\0\0\0\0\0\0\0\1x"), REDLANE_STORED_ENVELOPE);
    CHECK_INTEGER(READ(MARK_E "\x01\x80\0\0\0\0\0\0\1x"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x02\xff\xff\xff\xff\xff\xff\xff\xffx"),
                  REDLANE_STORED_BAD);
    /* tags: none, too many, one without a name, one cut */
    CHECK_INTEGER(READ(MARK_E "\x08\0"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x08\x41"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x08\x01\0\0\0\0\0\0\0\0\0"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x08\x01\x01t\0\0\0\0\0\0\0"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x08\x01\xfft\0\0\0\0\0\0\0\0"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x08\x01\x01t\0\0\0\0\0\0\0\0"),
                  REDLANE_STORED_ENVELOPE);
    /* a seal without room for it */
    CHECK_INTEGER(READ(MARK_E "\x20\x01\0\0\0\0seal of 31 bytes is one too few"),
                  REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x20\x01\0\0\0\0seal of 32 bytes is just enough!"),
                  REDLANE_STORED_ENVELOPE);
}

/* What a compressed value may claim to be. */
static void
test_bombs(void)
{
    CHECK_INTEGER(READ(MARK_E "\x10\x01\0\0\0\0\0\0\0\x05xx"), REDLANE_STORED_ENVELOPE);
    CHECK_INTEGER(READ(MARK_E "\x10\x02\0\0\0\0\0\0\0\x05xx"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x10\0\0\0\0\0\0\0\0\x05xx"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x10\x01\0\0\0\0\0\0\0\0xx"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x10\x01\0\0\0\0\0\1\0\0xx"), REDLANE_STORED_BAD);
    CHECK_INTEGER(READ(MARK_E "\x10\x01\xff\xff\xff\xff\xff\xff\xff\xffxx"),
                  REDLANE_STORED_BAD);
    {
        static char large[1 << 20];
        static const char head[] = MARK_E "\x10\x01\0\0\0\0\x20\0\0\0";
        RedlaneEnvelope envelope;

        /* 512 MiB of a megabyte are possible; one byte more is too much */
        memcpy(large, head, sizeof(head));
        CHECK_INTEGER(redlane_envelope_read(large, sizeof(large), &envelope),
                      REDLANE_STORED_ENVELOPE);
        CHECK_INTEGER(envelope.raw_size, REDLANE_ENVELOPE_RAW_MAX);
        large[14] = 1;
        CHECK_INTEGER(redlane_envelope_read(large, sizeof(large), &envelope),
                      REDLANE_STORED_BAD);
    }
}

/* Every field there is, or not, and every place where the whole may be cut. */
static void
test_round_trips(void)
{
    static const RedlaneEnvelopeTag tags[] = {
        {"a", 1, UINT64_MAX}, {"\0\xff", 2, 0}, {"user:42", 7, 77}};

    for (unsigned fields = 1; fields <= REDLANE_ENVELOPE_ALL; fields++) {
        RedlaneEnvelope wanted = {.fields = fields,
                                  .expires_at = INT64_MAX,
                                  .stored_at = 1732212345678,
                                  .compute_us = 1,
                                  .nonce = UINT64_MAX - 1,
                                  .tags = tags,
                                  .tag_count = 3,
                                  .compression = REDLANE_COMPRESSION_ZLIB,
                                  .raw_size = 2000,
                                  .format = 200,
                                  .key_id = 0xfedcba98,
                                  .content = "the content",
                                  .content_size = 11};
        char stored[256];
        size_t size = redlane_envelope_size(&wanted), at = 0, count = 0;
        char *seal = redlane_envelope_write(&wanted, stored);
        bool sealed = fields & REDLANE_ENVELOPE_SEALED;
        RedlaneEnvelope got;
        RedlaneEnvelopeTag tag;

        CHECK_INTEGER(seal - stored + (sealed ? REDLANE_ENVELOPE_SEAL_SIZE : 0), size);
        memset(seal, 's', sealed ? REDLANE_ENVELOPE_SEAL_SIZE : 0);
        CHECK_INTEGER(redlane_envelope_read(stored, size, &got),
                      REDLANE_STORED_ENVELOPE);
        CHECK_INTEGER(got.fields, fields);
        CHECK_INTEGER(got.expires_at,
                      fields & REDLANE_ENVELOPE_EXPIRES ? wanted.expires_at : 0);
        CHECK_INTEGER(got.stored_at,
                      fields & REDLANE_ENVELOPE_STORED ? wanted.stored_at : 0);
        CHECK_INTEGER(got.compute_us, fields & REDLANE_ENVELOPE_COMPUTE ? 1 : 0);
        CHECK(got.nonce == (fields & REDLANE_ENVELOPE_NONCE ? wanted.nonce : 0));
        CHECK_INTEGER(got.raw_size, fields & REDLANE_ENVELOPE_COMPRESSED ? 2000 : 0);
        CHECK_INTEGER(got.format, sealed ? 200 : 0);
        CHECK_INTEGER(got.key_id, sealed ? 0xfedcba98 : 0);
        CHECK_BYTES(got.content, got.content_size, "the content");
        CHECK(got.content + got.content_size == seal);
        while (redlane_envelope_next_tag(&got, &at, &tag)) {
            check_bytes(tag.id, tag.id_size, tags[count].id, tags[count].id_size, "tag",
                        __FILE__, __LINE__);
            CHECK_INTEGER(tag.generation, tags[count].generation);
            count++;
        }
        CHECK_INTEGER(count, fields & REDLANE_ENVELOPE_TAGS ? 3 : 0);
        for (size_t cut = 4; cut < size; cut++) {
            RedlaneStored kind = read_copy(stored, cut);

            /* cut in the header; behind that it is a shorter content */
            CHECK(kind == REDLANE_STORED_BAD ||
                  (kind == REDLANE_STORED_ENVELOPE && cut >= size - 11));
        }
    }
}

static void
test_what_cannot_be_written(void)
{
    static const RedlaneEnvelopeTag good = {"a", 1, 1}, empty = {"", 0, 1},
                                    longest = {"x", 256, 1};
    RedlaneEnvelope envelope = {.content = "x", .content_size = 1};

    CHECK_INTEGER(redlane_envelope_size(&envelope), 0);
    envelope.fields = 128;
    CHECK_INTEGER(redlane_envelope_size(&envelope), 0);
    envelope.fields = REDLANE_ENVELOPE_EXPIRES;
    CHECK_INTEGER(redlane_envelope_size(&envelope), 6 + 8 + 1);
    envelope.expires_at = -1;
    CHECK_INTEGER(redlane_envelope_size(&envelope), 0);
    envelope.expires_at = 0;
    envelope.fields = REDLANE_ENVELOPE_TAGS;
    envelope.tags = &good;
    CHECK_INTEGER(redlane_envelope_size(&envelope), 0);
    envelope.tag_count = 1;
    CHECK_INTEGER(redlane_envelope_size(&envelope), 6 + 1 + 10 + 1);
    envelope.tag_count = REDLANE_ENVELOPE_TAGS_MAX + 1;
    CHECK_INTEGER(redlane_envelope_size(&envelope), 0);
    envelope.tag_count = 1;
    envelope.tags = &empty;
    CHECK_INTEGER(redlane_envelope_size(&envelope), 0);
    envelope.tags = &longest;
    CHECK_INTEGER(redlane_envelope_size(&envelope), 0);
    envelope.fields = REDLANE_ENVELOPE_COMPRESSED;
    envelope.compression = REDLANE_COMPRESSION_ZLIB;
    envelope.raw_size = REDLANE_ENVELOPE_RAW_MAX + 1;
    CHECK_INTEGER(redlane_envelope_size(&envelope), 0);
}

void
test_envelope(void)
{
    test_kinds();
    test_bad_headers();
    test_bombs();
    test_round_trips();
    test_what_cannot_be_written();
}
