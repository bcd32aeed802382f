/* Lua for servers. Each text has its contract above it; KEYS before the semicolon, ARGV
 * behind. A lease is a string that begins with REDLANE_MARK and 'L'. Scripts touch
 * their KEYS only. A change to a text needs a new hash: tests/test_core_c.py
 * prints it. No lock: constant data. */
#include "core/script.h"

#include <string.h>

#include "core/script_text.h"

#define LEASE "'\\255RLL'"

/* Lua: add to a counter that is there; drop what is none. */
#define COUNTER_ADD_LUA                                                         \
    "local function add(key, amount)\n"                                         \
    "if redis.call('EXISTS', key) == 0 then return false end\n"                 \
    "local n = redis.pcall('INCRBY', key, amount)\n"                            \
    "if type(n) == 'table' then\n"                                              \
    "if not string.find(n.err, 'WRONGTYPE', 1, true)\n"                         \
    "and not string.find(n.err, 'not an integer', 1, true) then return n end\n" \
    "redis.call('DEL', key)\n"                                                  \
    "return false\n"                                                            \
    "end\n"                                                                     \
    "if n >= 9007199254740992 or n <= -9007199254740992 then return "           \
    "redis.call('GET', key) end\n"                                              \
    "return n\n"                                                                \
    "end\n"

/* Lua: the server's clock in ms, as digits, and whether the owner is known. */
#define PRESENCE_LUA                                                                   \
    "local time = redis.call('TIME')\n"                                                \
    "local now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))\n" \
    "local known = redis.call('ZSCORE', KEYS[4], ARGV[1]) and 1 or 0\n"

const RedlaneScript redlane_scripts[REDLANE_SCRIPT_COUNT] = {
    /* ACQUIRE key; lease, px.
     * Returns the string that is there, a lease too. Where nothing is, places the lease
     * for px ms and returns nil. Another type: WRONGTYPE, as GET gives it. */
    [REDLANE_SCRIPT_ACQUIRE] =
        {.name = "acquire",
         .text = "local v = redis.pcall('GET', KEYS[1])\n"
                 "if v then return v end\n"
                 "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n"
                 "return false\n",
         .sha1 = "e3b1c0a22797879e82bf4f1012485755c025a9e9"},
    /* FILL key; lease, value, px ("0": no TTL).
     * Stores the value where exactly this lease is: 1. Else, another type too: 0. */
    [REDLANE_SCRIPT_FILL] =
        {.name = "fill",
         .text = "if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
                 "if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2])\n"
                 "else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end\n"
                 "return 1\n",
         .sha1 = "ec55a1a26277c5b1cc4f47c59cba9f16d9774b37"},
    /* RELEASE key; lease.
     * Deletes the key where exactly this lease is: 1. Else, another type too: 0. */
    [REDLANE_SCRIPT_RELEASE] =
        {.name = "release",
         .text = "if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end\n"
                 "return redis.call('DEL', KEYS[1])\n",
         .sha1 = "2409d3662431aae4b6b267be377e7f538b47b9ce"},
    /* RENEW key; head, value, px ("0": no TTL, "-1": delete).
     * Where a string begins with the head, the value takes its place: 1. Else, another
     * type too: 0. The head is not empty. */
    [REDLANE_SCRIPT_RENEW] =
        {.name = "renew",
         .text = "if redis.pcall('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1]\n"
                 "then return 0 end\n"
                 "if ARGV[3] == '-1' then return redis.call('DEL', KEYS[1]) end\n"
                 "if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2])\n"
                 "else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end\n"
                 "return 1\n",
         .sha1 = "78ab3b59b48a6fb308e8a787920ca9e6bd6daf81"},
    /* ADD key; value, px ("0": no TTL).
     * Stores the value where nothing is, or a lease: 1. Else, any type: 0. */
    [REDLANE_SCRIPT_ADD] =
        {.name = "add",
         .text = "if redis.call('EXISTS', KEYS[1]) == 1\n"
                 "and redis.pcall('GETRANGE', KEYS[1], 0, 3) ~= " LEASE
                 " then return 0 end\n"
                 "if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])\n"
                 "else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end\n"
                 "return 1\n",
         .sha1 = "4956af87f2b253bdb1d4a842fd456a678d935e4d"},
    /* TOUCH key; px ("0": no TTL from now on).
     * Gives a value of any type its new TTL: 1. Nothing there, or a lease: 0. */
    [REDLANE_SCRIPT_TOUCH] = {.name = "touch",
                              .text =
                                  "if redis.pcall('GETRANGE', KEYS[1], 0, 3) == " LEASE
                                  " then return 0 end\n"
                                  "if ARGV[1] ~= '0' then return redis.call('PEXPIRE', "
                                  "KEYS[1], ARGV[1]) end\n"
                                  "redis.call('PERSIST', KEYS[1])\n"
                                  "return redis.call('EXISTS', KEYS[1])\n",
                              .sha1 = "c320d0b909145b3f3dd62c79b638ac278939abb3"},
    /* INCREMENT key; amount, px ("0": no TTL).
     * Where nothing is, or a lease, stores the amount with that TTL; else adds to what
     * is there, whose TTL stays. Returns the new value; INCRBY's errors pass through.
     * From 2^53 on, where Lua's numbers are no longer exact, the value comes as its
     * digits, a bulk string. */
    [REDLANE_SCRIPT_INCREMENT] =
        {.name = "increment",
         .text = "if redis.pcall('GETRANGE', KEYS[1], 0, 3) == " LEASE
                 " then redis.call('DEL', KEYS[1]) end\n"
                 "local fresh = redis.call('EXISTS', KEYS[1]) == 0\n"
                 "local n = redis.pcall('INCRBY', KEYS[1], ARGV[1])\n"
                 "if type(n) == 'table' then return n end\n"
                 "if fresh and ARGV[2] ~= '0' then redis.call('PEXPIRE', KEYS[1], "
                 "ARGV[2]) end\n"
                 "if n >= 9007199254740992 or n <= -9007199254740992 then return "
                 "redis.call('GET', KEYS[1]) end\n"
                 "return n\n",
         .sha1 = "9462efb737f31b68efe7d1cff498719aa69da6cc"},
    /* COUNTER_ADD key; amount, an integer.
     * Adds to a counter that exists and returns its new value, as INCREMENT does; its
     * TTL stays. Nothing there: nil. A lease, or what is no integer: deleted, nil, for
     * the counter is made anew from its source. An overflow is INCRBY's error. */
    [REDLANE_SCRIPT_COUNTER_ADD] = {.name = "counter_add",
                                    .text = COUNTER_ADD_LUA
                                    "return add(KEYS[1], ARGV[1])\n",
                                    .sha1 = "3d578c5e9f9484166bec34281553ce99a57af56b"},
    /* COUNTER_TRANSFER old, new.
     * COUNTER_ADD(old, -1) and COUNTER_ADD(new, 1) in one step: an array of the two
     * results; the error alone where the server takes no writes. Where both are one
     * key, that changes nothing: its value twice (nil, and nothing deleted, where it
     * holds no integer). */
    [REDLANE_SCRIPT_COUNTER_TRANSFER] =
        {.name = "counter_transfer",
         .text = COUNTER_ADD_LUA
         "if KEYS[1] ~= KEYS[2] then\n"
         "local pair = {add(KEYS[1], -1), add(KEYS[2], 1)}\n"
         "for i = 1, 2 do\n"
         "if type(pair[i]) == 'table' and not string.find(pair[i].err, '^ERR ') "
         "then return pair[i] end\n"
         "end\n"
         "return pair\n"
         "end\n"
         "local v = redis.pcall('GET', KEYS[1])\n"
         "local digits = type(v) == 'string' and (v == '0' and v or string.match(v, "
         "'^-?([1-9]%d*)$'))\n"
         "if not digits or #digits > 19 or (#digits == 19 and digits > "
         "'9223372036854775807'\n"
         "and v ~= '-9223372036854775808') then return {false, false} end\n"
         "if #digits <= 15 then v = tonumber(v) end\n"
         "return {v, v}\n",
         .sha1 = "ef6ae1af3eb28a3490222dc4168fd40547122bba"},
    /* VIDEO_SET key; value, px ("0": permanent).
     * Stores the value and returns 1; but a temporary one never over a permanent one (a
     * string without TTL that is no lease): 0. */
    [REDLANE_SCRIPT_VIDEO_SET] =
        {.name = "video_set",
         .text =
             "if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1]) return 1 end\n"
             "if redis.call('PTTL', KEYS[1]) == -1 and redis.call('TYPE', KEYS[1]).ok "
             "== 'string'\n"
             "and redis.call('GETRANGE', KEYS[1], 0, 3) ~= " LEASE
             " then return 0 end\n"
             "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])\n"
             "return 1\n",
         .sha1 = "45922e2d69cdec98086ca0323a4ef821578e452b"},
    /* RESTORE key; value, px ("0": no TTL), "1" or "0".
     * Stores the value where nothing is, or a lease: 1. With "1" one without TTL also
     * takes the place of what has one. Where the same value is, the longer of two TTLs
     * holds: 1. Else, any type: 0. */
    [REDLANE_SCRIPT_RESTORE] =
        {.name = "restore",
         .text = "if redis.call('EXISTS', KEYS[1]) == 1\n"
                 "and redis.pcall('GETRANGE', KEYS[1], 0, 3) ~= " LEASE "\n"
                 "then\n"
                 "local left = redis.call('PTTL', KEYS[1])\n"
                 "if ARGV[2] ~= '0' and left >= 0 and redis.pcall('GET', KEYS[1]) == "
                 "ARGV[1] then\n"
                 "if left < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], "
                 "ARGV[2]) end\n"
                 "return 1\n"
                 "end\n"
                 "if ARGV[3] == '0' or ARGV[2] ~= '0' or left == -1 then return 0 end\n"
                 "end\n"
                 "if ARGV[2] == '0' then redis.call('SET', KEYS[1], ARGV[1])\n"
                 "else redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) end\n"
                 "return 1\n",
         .sha1 = "fa6f73c6ddb0a3cb4a485635e65fd51f655a1fc3"},
    /* TAGS tag...; generation, px ("0": no TTL).
     * Returns the generation of each tag. Where none is, what else is there too, that
     * is the one given, which is stored. Each lives for px ms more at least, or for
     * ever; its TTL is written with room to spare, for each time that it is written
     * ends what is near. */
    [REDLANE_SCRIPT_TAGS] =
        {.name = "tags",
         .text = "local all, px = {}, tonumber(ARGV[2])\n"
                 "for i, key in ipairs(KEYS) do\n"
                 "local v = redis.pcall('GET', key)\n"
                 "if type(v) ~= 'string' or #v ~= 12 or string.sub(v, 1, 4) ~= "
                 "'\\255RLG' then\n"
                 "v = ARGV[1]\n"
                 "if px == 0 then redis.call('SET', key, v)\n"
                 "else redis.call('SET', key, v, 'PX', px * 2 + 3600000) end\n"
                 "elseif px == 0 then redis.call('PERSIST', key)\n"
                 "else\n"
                 "local left = redis.call('PTTL', key)\n"
                 "if left >= 0 and left < px then redis.call('PEXPIRE', key, px * 2 + "
                 "3600000) end\n"
                 "end\n"
                 "all[i] = v\n"
                 "end\n"
                 "return all\n",
         .sha1 = "de1fe0461b869070786b2f5aef4f11aeb8b5eeb8"},
    /* COOLDOWN key; px.
     * Where nothing is, begins a cooldown of px ms: 0. Else, any type: the ms that are
     * left, at least 1. What has no TTL is none of ours, and must not block for ever:
     * it gets one. */
    [REDLANE_SCRIPT_COOLDOWN] = {.name = "cooldown",
                                 .text =
                                     "local left = redis.call('PTTL', KEYS[1])\n"
                                     "if left == -1 then\n"
                                     "redis.call('PEXPIRE', KEYS[1], ARGV[1])\n"
                                     "return tonumber(ARGV[1])\n"
                                     "end\n"
                                     "if left > 0 then return left end\n"
                                     "redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])\n"
                                     "return 0\n",
                                 .sha1 = "147a14ebd075c7421d8978b38015cc9f77db522b"},
    /* The scripts of Presence have four keys: the plain set of users, and beside it the
     * connections (a hash: connection to owner), the counts (a hash: user to number of
     * connections) and the servers (a sorted set: owner to the end of its lease, in ms
     * of the server's clock). Each replies with an array: whether the owner was known,
     * how many leases have ended, and its own result.
     *
     * PRESENCE_JOIN users, connections, counts, servers; owner, lease in ms ("0":
     * none), then user and connection... Renews the lease and adds the connections. Its
     * result: how many users came. */
    [REDLANE_SCRIPT_PRESENCE_JOIN] =
        {.name = "presence_join",
         .text = PRESENCE_LUA
         "local till = 9000000000000000\n"
         "if ARGV[2] ~= '0' then till = tonumber(now) + ARGV[2] end\n"
         "redis.call('ZADD', KEYS[4], string.format('%.0f', till), ARGV[1])\n"
         "local came = 0\n"
         "for i = 3, #ARGV, 2 do\n"
         "if redis.call('HSET', KEYS[2], ARGV[i + 1], ARGV[1]) == 1 then "
         "redis.call('HINCRBY', KEYS[3], ARGV[i], 1) end\n"
         "came = came + redis.call('SADD', KEYS[1], ARGV[i])\n"
         "end\n"
         "return {known, redis.call('ZCOUNT', KEYS[4], '-inf', now), came}\n",
         .sha1 = "97499f8a9c9b664fffa281d815ac1ec07631a2fa"},
    /* PRESENCE_LEAVE users, connections, counts, servers; owner, of whom, "1" or "0",
     * then user and connection...
     * Ends connections of the second owner, which is the first, or else one whose lease
     * has ended, or that is not known; with "1" that owner goes too. Its result: how
     * many users went, for they had no other connection. */
    [REDLANE_SCRIPT_PRESENCE_LEAVE] =
        {.name = "presence_leave",
         .text = PRESENCE_LUA
         "local went = 0\n"
         "local till = ARGV[2] ~= ARGV[1] and redis.call('ZSCORE', KEYS[4], ARGV[2])\n"
         "if not till or tonumber(till) <= tonumber(now) then\n"
         "for i = 4, #ARGV, 2 do\n"
         "if redis.call('HGET', KEYS[2], ARGV[i + 1]) == ARGV[2] then\n"
         "redis.call('HDEL', KEYS[2], ARGV[i + 1])\n"
         "if redis.call('HINCRBY', KEYS[3], ARGV[i], -1) <= 0 then\n"
         "redis.call('HDEL', KEYS[3], ARGV[i])\n"
         "went = went + redis.call('SREM', KEYS[1], ARGV[i])\n"
         "end\n"
         "end\n"
         "end\n"
         "if ARGV[3] == '1' then redis.call('ZREM', KEYS[4], ARGV[2]) end\n"
         "end\n"
         "return {known, redis.call('ZCOUNT', KEYS[4], '-inf', now), went}\n",
         .sha1 = "a99d95d25dd7fcf4caf40425d00e6a62ffba754c"},
    /* PRESENCE_READ users, connections, counts, servers; owner, what, user.
     * Its result, by what: "members", the users; "count", of them; "online", 1 where
     * the user is; "dead", the owners whose lease has ended. */
    [REDLANE_SCRIPT_PRESENCE_READ] =
        {.name = "presence_read",
         .text = PRESENCE_LUA
         "local dead, found = redis.call('ZCOUNT', KEYS[4], '-inf', now)\n"
         "if ARGV[2] == 'members' then found = redis.call('SMEMBERS', KEYS[1])\n"
         "elseif ARGV[2] == 'count' then found = redis.call('SCARD', KEYS[1])\n"
         "elseif ARGV[2] == 'online' then found = redis.call('SISMEMBER', KEYS[1], "
         "ARGV[3])\n"
         "else found = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', now) end\n"
         "return {known, dead, found}\n",
         .sha1 = "34a4142590fc9e3f8487dcfc2bec0b40816aaf29"},
    /* LIMIT key...; "h" | "p" | "r", cost, now ("0": the server's time; another only in
     * tests), then six for each key: kind, count, window, x, y, z; as core/limit.h has
     * them: "f" index, "1" or "0", 0; "s" tick, span, 0; "b" token, drain, burst; "l"
     * 0, 0, 0. Times are Unix microseconds. Decides on all of them at once. "h":
     * charges the cost to all where all have room, else to none; "p": to none; "r":
     * gives it back. Returns the time, then for each: what remains, microseconds until
     * nothing counts any more, and until the cost had room before this call ("r": has
     * room after it). Only the time, and nothing done, where "f" names another window
     * than the present one; with "1" the ones next to it will do. Every key that is
     * written has its TTL in the same step. */
    [REDLANE_SCRIPT_LIMIT] = {.name = "limit",
                              .text = redlane_script_limit_text,
                              .sha1 = "b1871c8a7144acb5ea1dfdf972d39f560a05d44a"},
    /* LIMIT_CHARGE key; six as for LIMIT, then a state (index, current, previous; of a
     * log its times).
     * Adds what was admitted elsewhere, as far as it counts still, to the limit's
     * bound:
     * 1. Where that is another window: 0. Not for the memory engine. */
    [REDLANE_SCRIPT_LIMIT_CHARGE] = {.name = "limit_charge",
                                     .text = redlane_script_charge_text,
                                     .sha1 =
                                         "65d354da377e874dd9e8c5c01e37693dbea564ed"},
    /* SLOT key; "a" | "x" | "r" | "p", token, limit, lease in ms.
     * The key is a sorted set: token to the end of its lease, in ms of the server's
     * clock. What has ended is dropped first ("p" writes nothing, and looks past it).
     * "a": takes a slot where fewer than the limit are held; "x": a new lease from now
     * on, where the token has a slot; "r": gives the slot back; "p": none of these.
     * Returns whether that was done, how many slots are held then, and, where "a" took
     * none, ms until so many leases have ended that one would be free. "a" with a token
     * that has a slot is "x". The key lives for as long as its longest lease. */
    [REDLANE_SCRIPT_SLOT] = {.name = "slot",
                             .text = redlane_script_slot_text,
                             .sha1 = "a316eb54523e002c079dd77f41eb9ddcb9440860"},
};

const RedlaneScript *
redlane_script_by_sha1(const char *sha1, size_t size)
{
    char lower[40];

    if (size != sizeof(lower)) {
        return NULL;
    }
    for (size_t i = 0; i < size; i++) {
        lower[i] = sha1[i] >= 'A' && sha1[i] <= 'F' ? (char)(sha1[i] + 32) : sha1[i];
    }
    for (size_t i = 0; i < REDLANE_SCRIPT_COUNT; i++) {
        if (memcmp(redlane_scripts[i].sha1, lower, sizeof(lower)) == 0) {
            return &redlane_scripts[i];
        }
    }
    return NULL;
}

const RedlaneScript *
redlane_script_by_text(const char *text, size_t size)
{
    for (size_t i = 0; i < REDLANE_SCRIPT_COUNT; i++) {
        const char *known = redlane_scripts[i].text;

        if (strlen(known) == size && memcmp(known, text, size) == 0) {
            return &redlane_scripts[i];
        }
    }
    return NULL;
}
