-- Keeps the last values of Latest keys.
--
-- KEYS[1]  latest, a hash: a key of 16 hex digits → "<highest version, or -> <ms when it was kept> <envelope>"
-- ARGV[1]  ms that a value is kept; ARGV[2] values of one hash; then key, version ('-': none) and envelope of each
--
-- Versions have 20 digits, so that their order is that of texts: a number is not exact here beyond 2^53. A value without a
-- version takes the place of any, and leaves the version; one with an older version changes nothing. Answers how many
-- values there are.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function kept_at(value)
  return tonumber(string.match(value, '^%S+ (%d+) ') or '0')
end

for at = 3, #ARGV, 3 do
  local key, version, envelope = ARGV[at], ARGV[at + 1], ARGV[at + 2]
  local kept = redis.call('HGET', KEYS[1], key)
  local newest = kept and string.match(kept, '^(%d+) ')
  if version == '-' or not newest or newest < version then
    local highest = version == '-' and newest or version
    redis.call('HSET', KEYS[1], key, highest .. ' ' .. string.format('%.0f', now) .. ' ' .. envelope)
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])

local count = redis.call('HLEN', KEYS[1])
local values = redis.call('HGETALL', KEYS[1])
local ages = {}
for at = 1, #values, 2 do
  ages[#ages + 1] = { key = values[at], at = kept_at(values[at + 1]) }
end
table.sort(ages, function(a, b)
  return a.at < b.at or (a.at == b.at and a.key < b.key)
end)
for _, oldest in ipairs(ages) do
  if count <= tonumber(ARGV[2]) and oldest.at + tonumber(ARGV[1]) > now then
    break
  end
  redis.call('HDEL', KEYS[1], oldest.key)
  count = count - 1
end
return count
