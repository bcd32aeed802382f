/* Lua for rate limits: what core/limit.c does, on a server. The contracts are in
 * script.c; names and formulas are those of core/limit.h. No lock: constant data. */
#include "core/script_text.h"

/* A limit is a table `m`, as a meter: k(ind), n (count), w(indow), x, y, z (as the
 * caller has worked them out), and what `open` finds. States are texts of whole
 * numbers; what is no such text is nothing. */
#define METER_LUA                                                                      \
    "local floor, call, pcall = math.floor, redis.call, redis.pcall\n"                 \
    "local min, max = math.min, math.max\n"                                            \
    "local now\n"                                                                      \
    "local function up(a, b) return floor((a + b - 1) / b) end\n"                      \
    "local function clock(given)\n"                                                    \
    "now = tonumber(given)\n"                                                          \
    "if now == 0 then local t = call('TIME') now = t[1] * 1000000 + t[2] end\n"        \
    "end\n"                                                                            \
    "local function read(key, pattern)\n"                                              \
    "local v = pcall('GET', key)\n"                                                    \
    "if type(v) ~= 'string' or #v > 60 then return end\n"                              \
    "local a, b, c = string.match(v, pattern)\n"                                       \
    "return tonumber(a), tonumber(b), tonumber(c)\n"                                   \
    "end\n"                                                                            \
    "local function weigh(m)\n"                                                        \
    "m.used = m.cur + up(m.prev * (m.y - floor(m.phase / m.x)), m.y)\n"                \
    "end\n"                                                                            \
    "local function align(m, i, cur, prev)\n"                                          \
    "if i == m.i then return cur, prev end\n"                                          \
    "if i == m.i - 1 then return 0, cur end\n"                                         \
    "if i > m.i then m.moved = true return min(m.n, cur + prev), 0 end\n"              \
    "return 0, 0\n"                                                                    \
    "end\n"                                                                            \
    "local function debt(m, at, part)\n"                                               \
    "local most, wait = m.z * m.x, at - now\n"                                         \
    "if wait < 0 then return 0 end\n"                                                  \
    "if wait > floor(most / m.y) then m.moved = true return most end\n"                \
    "return min(most, wait * m.y + part)\n"                                            \
    "end\n"                                                                            \
    "local function add_times(m, n, at)\n"                                             \
    "local seq, score = call('ZCOUNT', m.key, at, at), string.format('%.0f', at)\n"    \
    "for i = seq + 1, seq + n do\n"                                                    \
    "call('ZADD', m.key, score, score .. string.format(':%06d', i))\n"                 \
    "end\n"                                                                            \
    "end\n"                                                                            \
    "local function open_log(m)\n"                                                     \
    "local v = pcall('ZREVRANGE', m.key, 0, 0, 'WITHSCORES')\n"                        \
    "m.used = 0\n"                                                                     \
    "if v.err then call('DEL', m.key) return end\n"                                    \
    "if not v[1] then return end\n"                                                    \
    "if tonumber(v[2]) > now then\n"                                                   \
    "local from = string.format('(%.0f', now)\n"                                       \
    "local n = call('ZREMRANGEBYSCORE', m.key, from, '+inf')\n"                        \
    "add_times(m, n, now)\n"                                                           \
    "call('PEXPIRE', m.key, up(m.w, 1000) + 10)\n"                                     \
    "end\n"                                                                            \
    "m.used = call('ZCOUNT', m.key, string.format('(%.0f', now - m.w), '+inf')\n"      \
    "end\n"                                                                            \
    "local function open(key, at)\n"                                                   \
    "local m = {key = key, k = ARGV[at], n = tonumber(ARGV[at + 1]),\n"                \
    "w = tonumber(ARGV[at + 2]), x = tonumber(ARGV[at + 3]),\n"                        \
    "y = tonumber(ARGV[at + 4]), z = tonumber(ARGV[at + 5])}\n"                        \
    "if m.k == 'f' then\n"                                                             \
    "m.i = m.x\n"                                                                      \
    "local off = m.i - floor(now / m.w)\n"                                             \
    "if off ~= 0 and (m.y == 0 or off > 1 or off < -1) then return end\n"              \
    "m.left = max((m.i + 1) * m.w - now, 1)\n"                                         \
    "m.used = min(m.n, read(key, '^(%d+)$') or 0)\n"                                   \
    "elseif m.k == 's' then\n"                                                         \
    "m.i = floor(now / m.w)\n"                                                         \
    "m.phase = now - m.i * m.w\n"                                                      \
    "m.left = m.w - m.phase\n"                                                         \
    "local i, cur, prev = read(key, '^(%d+) (%d+) (%d+)$')\n"                          \
    "m.cur, m.prev = align(m, i or 0, min(m.n, cur or 0), min(m.n, prev or 0))\n"      \
    "weigh(m)\n"                                                                       \
    "elseif m.k == 'b' then\n"                                                         \
    "local at, part = read(key, '^(%d+) (%d+)$')\n"                                    \
    "m.used = debt(m, at or 0, part or 0)\n"                                           \
    "else\n"                                                                           \
    "open_log(m)\n"                                                                    \
    "end\n"                                                                            \
    "return m\n"                                                                       \
    "end\n"                                                                            \
    "local function last(m)\n"                                                         \
    "return tonumber(call('ZREVRANGE', m.key, 0, 0, 'WITHSCORES')[2])\n"               \
    "end\n"                                                                            \
    "local function reset(m)\n"                                                        \
    "if m.used == 0 and (m.prev or 0) == 0 then return 0 end\n"                        \
    "if m.k == 'f' then return m.left end\n"                                           \
    "if m.k == 's' then return m.left + (m.cur > 0 and m.w or 0) end\n"                \
    "if m.k == 'b' then return up(m.used, m.y) end\n"                                  \
    "return last(m) + m.w - now\n"                                                     \
    "end\n"                                                                            \
    "local function close(m, left)\n"                                                  \
    "if m.k == 'l' then\n"                                                             \
    "if left > 0 then call('PEXPIRE', m.key, up(left, 1000) + 10) end\n"               \
    "return\n"                                                                         \
    "end\n"                                                                            \
    "if left == 0 then call('DEL', m.key) return end\n"                                \
    "local v\n"                                                                        \
    "if m.k == 'f' then v = string.format('%.0f', m.used)\n"                           \
    "elseif m.k == 's' then v = string.format('%.0f %.0f %.0f', m.i, m.cur, m.prev)\n" \
    "else v = string.format('%.0f %.0f', now + floor(m.used / m.y), m.used % m.y)\n"   \
    "end\n"                                                                            \
    "call('SET', m.key, v, 'PX', up(left, 1000) + 10)\n"                               \
    "end\n"

const char redlane_script_limit_text[] = METER_LUA
    "local mode, cost, all, free = ARGV[1], tonumber(ARGV[2]), {}, true\n"
    "local function step(m, previous, room)\n"
    "if previous <= room then return 0 end\n"
    "return min((m.y - floor(room * m.y / previous)) * m.x, m.w)\n"
    "end\n"
    "local function retry(m)\n"
    "local over = m.used + cost - m.n\n"
    "if m.k == 'b' then\n"
    "over = m.used + (cost - m.z) * m.x\n"
    "return over > 0 and up(over, m.y) or 0\n"
    "end\n"
    "if over <= 0 then return 0 end\n"
    "if m.k == 'f' then return m.left end\n"
    "if m.k == 'l' then\n"
    "local v = call('ZRANGEBYSCORE', m.key, string.format('(%.0f', now - m.w),\n"
    "'+inf', 'WITHSCORES', 'LIMIT', over - 1, 1)\n"
    "return tonumber(v[2]) + m.w - now\n"
    "end\n"
    "local room = m.n - m.cur - cost\n"
    "if room >= 0 then return max(step(m, m.prev, room) - m.phase, 1) end\n"
    "return m.left + step(m, m.cur, m.n - cost)\n"
    "end\n"
    "local function add(m)\n"
    "if m.k == 'f' then m.used = min(m.n, m.used + cost)\n"
    "elseif m.k == 's' then m.cur = min(m.n, m.cur + cost) weigh(m)\n"
    "elseif m.k == 'b' then m.used = min(m.z * m.x, m.used + cost * m.x)\n"
    "else\n"
    "call('ZREMRANGEBYSCORE', m.key, '-inf', string.format('%.0f', now - m.w))\n"
    "add_times(m, cost, now)\n"
    "m.used = m.used + cost\n"
    "end\n"
    "end\n"
    "local function refund(m)\n"
    "if m.k == 's' then\n"
    "local here = min(cost, m.cur)\n"
    "m.cur, m.prev = m.cur - here, max(m.prev - (cost - here), 0)\n"
    "weigh(m)\n"
    "elseif m.k == 'b' then m.used = max(m.used - cost * m.x, 0)\n"
    "else\n"
    "local here = min(cost, m.used)\n"
    "m.used = m.used - here\n"
    "if m.k == 'l' then\n"
    "call('ZREMRANGEBYSCORE', m.key, '-inf', string.format('%.0f', now - m.w))\n"
    "call('ZPOPMAX', m.key, here)\n"
    "end\n"
    "end\n"
    "end\n"
    "clock(ARGV[3])\n"
    "for i, key in ipairs(KEYS) do\n"
    "local m = open(key, 6 * i - 2)\n"
    "if not m then return {now} end\n"
    "m.retry = retry(m)\n"
    "free = free and m.retry == 0\n"
    "all[i] = m\n"
    "end\n"
    "local out = {now}\n"
    "for i, m in ipairs(all) do\n"
    "local left\n"
    "if mode == 'h' and free and cost > 0 then add(m) left = reset(m) close(m, left)\n"
    "elseif mode == 'r' and (m.used > 0 or (m.prev or 0) > 0) then\n"
    "refund(m) left = reset(m) close(m, left)\n"
    "m.retry = retry(m)\n"
    "else\n"
    "left = reset(m)\n"
    "if m.moved then close(m, left) end\n"
    "end\n"
    "out[i * 3 - 1] = m.k == 'b' and floor((m.z * m.x - m.used) / m.x)\n"
    "or max(m.n - m.used, 0)\n"
    "out[i * 3] = left\n"
    "out[i * 3 + 1] = m.retry\n"
    "end\n"
    "return out\n";

const char redlane_script_charge_text[] = METER_LUA
    "clock('0')\n"
    "local m = open(KEYS[1], 1)\n"
    "if not m then return 0 end\n"
    "local a, b, c = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])\n"
    "if m.k == 'f' then m.used = min(m.n, m.used + b)\n"
    "elseif m.k == 's' then\n"
    "local cur, prev = align(m, a, b, c)\n"
    "m.cur, m.prev = min(m.n, m.cur + cur), min(m.n, m.prev + prev)\n"
    "weigh(m)\n"
    "elseif m.k == 'b' then m.used = min(m.z * m.x, m.used + debt(m, b, c))\n"
    "else\n"
    "call('ZREMRANGEBYSCORE', m.key, '-inf', string.format('%.0f', now - m.w))\n"
    "for i = 7, #ARGV do\n"
    "local at = min(tonumber(ARGV[i]), now)\n"
    "if m.used == m.n then break end\n"
    "if at > now - m.w then add_times(m, 1, at) m.used = m.used + 1 end\n"
    "end\n"
    "end\n"
    "close(m, reset(m))\n"
    "return 1\n";

const char redlane_script_slot_text[] =
    "local key, mode, token = KEYS[1], ARGV[1], ARGV[2]\n"
    "local limit, lease = tonumber(ARGV[3]), tonumber(ARGV[4])\n"
    "local call, time = redis.call, redis.call('TIME')\n"
    "local now = time[1] * 1000 + math.floor(time[2] / 1000)\n"
    "local function text(n) return string.format('%.0f', n) end\n"
    "if mode == 'p' then\n"
    "return {1, call('ZCOUNT', key, '(' .. text(now), '+inf'), 0}\n"
    "end\n"
    "call('ZREMRANGEBYSCORE', key, '-inf', text(now))\n"
    "local mine, count = call('ZSCORE', key, token), call('ZCARD', key)\n"
    "if mode == 'r' then\n"
    "local gone = call('ZREM', key, token)\n"
    "return {gone, count - gone, 0}\n"
    "end\n"
    "if not mine then\n"
    "if mode == 'x' then return {0, count, 0} end\n"
    "if count >= limit then\n"
    "local next = call('ZRANGE', key, count - limit, count - limit, 'WITHSCORES')\n"
    "return {0, count, tonumber(next[2]) - now}\n"
    "end\n"
    "count = count + 1\n"
    "end\n"
    "call('ZADD', key, text(now + lease), token)\n"
    "local last = call('ZRANGE', key, -1, -1, 'WITHSCORES')\n"
    "call('PEXPIRE', key, text(tonumber(last[2]) - now + 10))\n"
    "return {1, count, 0}\n";
