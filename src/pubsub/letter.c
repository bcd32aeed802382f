#include "pubsub/letter.h"

#include <stdlib.h>
#include <string.h>

static RedlaneLetter *
make_letter(size_t topic, size_t channel, size_t size)
{
    RedlaneLetter *letter;

    if (topic > UINT32_MAX || channel > UINT32_MAX) {
        return NULL;
    }
    letter = malloc(sizeof(*letter) + topic + channel + size);
    if (letter) {
        *letter = (RedlaneLetter){.topic_size = (uint32_t)topic,
                                  .channel_size = (uint32_t)channel,
                                  .size = size};
        atomic_init(&letter->references, 1);
    }
    return letter;
}

RedlaneLetter *
redlane_letter_message(RedlaneArg channel, const RedlaneArg *pattern,
                       RedlaneArg payload)
{
    size_t topic = pattern ? pattern->size : 0;
    RedlaneLetter *letter = make_letter(topic, channel.size, payload.size);

    if (letter) {
        if (pattern) {
            letter->by_pattern = true;
            memcpy(letter->bytes, pattern->data, topic);
        }
        memcpy(letter->bytes + topic, channel.data, channel.size);
        memcpy(letter->bytes + topic + channel.size, payload.data, payload.size);
    }
    return letter;
}

RedlaneLetter *
redlane_letter_gap(const char *reason, uint64_t dropped, int64_t length)
{
    size_t size = strlen(reason);
    RedlaneLetter *letter = make_letter(0, 0, size);

    if (letter) {
        letter->is_gap = true;
        letter->dropped = dropped;
        letter->length = length;
        memcpy(letter->bytes, reason, size);
    }
    return letter;
}

void
redlane_letter_release(RedlaneLetter *letter)
{
    if (letter &&
        atomic_fetch_sub_explicit(&letter->references, 1, memory_order_acq_rel) == 1) {
        free(letter);
    }
}
