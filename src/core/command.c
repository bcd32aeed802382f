/* The command table: constant rows, and a hash over their names.
 *
 * The hash is filled once, when the library is loaded and nobody else runs, and only
 * read after that: no lock, no GIL, no check on the way of a look-up.
 *
 *   slots[512]: {word, row, size}, open addressing, linear probing, at most half full
 *
 * `word` is the name's first (and, for longer names, mixed last) bytes without case, so
 * that a name of up to eight letters is settled by one comparison. */
#include "core/command.h"

#include <assert.h>
#include <string.h>

#define SLOT_BITS 9
#define SLOT_COUNT (1u << SLOT_BITS)
#define CASELESS UINT64_C(0xdfdfdfdfdfdfdfdf)
#define NAME_MAX_SIZE 24 /* above the longest name, GEORADIUSBYMEMBER_RO */

#define READ REDLANE_COMMAND_READ
#define WRITE REDLANE_COMMAND_WRITE
#define NONE 0
#define SECONDS false
#define MILLISECONDS true
#define ENGINE(id, arity, flags) \
    {#id, NULL, REDLANE_COMMAND_ORDINARY, REDLANE_CMD_##id, arity, flags, 0, false},
#define ORDINARY(name, arity, flags) \
    {name, NULL, REDLANE_COMMAND_ORDINARY, REDLANE_CMD_NONE, arity, flags, 0, false},
#define BLOCKING(name, arity, flags, at, unit) \
    {name, NULL, REDLANE_COMMAND_BLOCKING, REDLANE_CMD_NONE, arity, flags, at, unit},
#define STATEFUL(name, arity, instead) \
    {name, instead, REDLANE_COMMAND_STATEFUL, REDLANE_CMD_NONE, arity, 0, 0, false},

static const RedlaneCommand rows[] = {
#include "core/command_rows.def"
};

#define ROW_COUNT (sizeof(rows) / sizeof(rows[0]))

static_assert(ROW_COUNT <= SLOT_COUNT * 6 / 10, "the command table needs more slots");

const RedlaneCommand REDLANE_COMMAND_UNKNOWN = {
    .name = "", .kind = REDLANE_COMMAND_ORDINARY, .arity = -1};

typedef struct {
    uint64_t word;
    uint16_t row;   /* index + 1; 0 in an empty slot */
    uint8_t size;   /* of the name */
    bool confirmed; /* equal word and size mean an equal name */
} Slot;

static Slot slots[SLOT_COUNT];
static uint16_t row_of_id[REDLANE_CMD_COUNT];

static inline uint64_t
load_8(const char *data)
{
    uint64_t word;

    memcpy(&word, data, 8);
    return word;
}

static inline uint64_t
load_4(const char *data)
{
    uint32_t word;

    memcpy(&word, data, 4);
    return word;
}

static inline uint64_t
load_3(const char *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    return (uint64_t)(uint8_t)data[0] | (uint64_t)(uint8_t)data[size / 2] << 8 |
           (uint64_t)(uint8_t)data[size - 1] << 16;
}

/* Without the bit that tells upper from lower case: one to one for letters, good enough
 * for the hash for all others. */
static inline uint64_t
pack_name(const char *name, size_t size)
{
    uint64_t word;

    if (size > 8) {
        return (load_8(name) & CASELESS) + (load_8(name + size - 8) & CASELESS) * 3;
    }
    if (size == 8) {
        word = load_8(name);
    }
    else if (size >= 4) {
        word = load_4(name) | load_4(name + size - 4) << 8 * (size - 4);
    }
    else {
        word = load_3(name, size);
    }
    return word & CASELESS;
}

static inline size_t
slot_of(uint64_t word)
{
    return (word * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - SLOT_BITS);
}

static inline char
upper(char byte)
{
    return byte >= 'a' && byte <= 'z' ? (char)(byte - 32) : byte;
}

static bool
same_name(const char *row_name, const char *name, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (row_name[i] != upper(name[i])) {
            return false;
        }
    }
    return true;
}

static bool
only_letters(const char *name, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (name[i] < 'A' || name[i] > 'Z') {
            return false;
        }
    }
    return true;
}

__attribute__((constructor)) static void
fill_slots(void)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const char *name = rows[i].name;
        size_t size = strlen(name);
        uint64_t word = pack_name(name, size);
        size_t at = slot_of(word);

        while (slots[at].row) {
            at = (at + 1) % SLOT_COUNT;
        }
        slots[at] = (Slot){.word = word,
                           .row = (uint16_t)(i + 1),
                           .size = (uint8_t)size,
                           .confirmed = size <= 8 && only_letters(name, size)};
        row_of_id[rows[i].id] = (uint16_t)i;
    }
}

const RedlaneCommand *
redlane_command_find(const char *name, size_t size)
{
    uint64_t word;

    if (size > NAME_MAX_SIZE) {
        return &REDLANE_COMMAND_UNKNOWN;
    }
    word = pack_name(name, size);
    for (size_t at = slot_of(word); slots[at].row; at = (at + 1) % SLOT_COUNT) {
        const Slot *slot = &slots[at];

        if (slot->word == word && slot->size == size) {
            const RedlaneCommand *row = &rows[slot->row - 1];

            if (slot->confirmed || same_name(row->name, name, size)) {
                return row;
            }
        }
    }
    return &REDLANE_COMMAND_UNKNOWN;
}

const RedlaneCommand *
redlane_command_by_id(RedlaneCommandId id)
{
    if (id <= REDLANE_CMD_NONE || id >= REDLANE_CMD_COUNT) {
        return &REDLANE_COMMAND_UNKNOWN;
    }
    return &rows[row_of_id[id]];
}
