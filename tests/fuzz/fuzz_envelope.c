/* Stored values: whatever the bytes are, nothing behind their end is read, what the
 * header says lies within its bounds, and an envelope has one form: written again it is
 * the same. */
#include <string.h>

#include "core/envelope.h"
#include "fuzz.h"

/* The tags of an envelope that was read, as they are written. */
static size_t
collect_tags(const RedlaneEnvelope *envelope, RedlaneEnvelopeTag *tags, const char *end)
{
    size_t at = 0, count = 0;

    while (redlane_envelope_next_tag(envelope, &at, &tags[count])) {
        require(tags[count].id_size > 0 && tags[count].id + tags[count].id_size < end,
                "a tag within the header");
        count++;
        require(count <= REDLANE_ENVELOPE_TAGS_MAX, "a bounded number of tags");
    }
    return count;
}

static void
check_envelope(const char *data, size_t size, RedlaneEnvelope *envelope)
{
    RedlaneEnvelopeTag tags[REDLANE_ENVELOPE_TAGS_MAX + 1];
    size_t seal_size =
        envelope->fields & REDLANE_ENVELOPE_SEALED ? REDLANE_ENVELOPE_SEAL_SIZE : 0;
    char *again = malloc(size), *seal;

    if (!again) {
        return;
    }
    require(envelope->content > data &&
                envelope->content + envelope->content_size + seal_size == data + size,
            "content and seal fill the rest");
    require(envelope->raw_size <= REDLANE_ENVELOPE_RAW_MAX &&
                envelope->raw_size <= (envelope->content_size + 1) * 1040,
            "no absurd claim");
    require(collect_tags(envelope, tags, envelope->content) == envelope->tag_count,
            "as many tags as are said");
    envelope->tags = tags;
    require(redlane_envelope_size(envelope) == size, "its size is known");
    seal = redlane_envelope_write(envelope, again);
    require((size_t)(seal - again) + seal_size == size, "the seal is the end");
    memcpy(seal, data + size - seal_size, seal_size);
    require(memcmp(again, data, size) == 0, "written again it is the same");
    free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    const char *data = (const char *)input;
    RedlaneEnvelope envelope;

    if (size == 0) {
        return 0;
    }
    switch (redlane_envelope_read(data, size, &envelope)) {
    case REDLANE_STORED_BARE:
        require(envelope.content == data && envelope.content_size == size &&
                    envelope.fields == 0,
                "a bare value is its own content");
        break;
    case REDLANE_STORED_PLAIN:
        require(envelope.content == data + 4 && envelope.content_size == size - 4 &&
                    envelope.fields == 0,
                "a plain value is what follows its mark");
        break;
    case REDLANE_STORED_ENVELOPE:
        check_envelope(data, size, &envelope);
        break;
    case REDLANE_STORED_LEASE:
    case REDLANE_STORED_BAD:
        break;
    }
    return 0;
}
