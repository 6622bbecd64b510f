-- Takes the lease, or keeps it.
--
-- KEYS[1]  the lease, a string: "<holder> <since when it has heard foreign channels without a break, ms>"
-- ARGV[1]  who asks; ARGV[2] ms that the lease is given for; ARGV[3] ms for which the asker has heard so
--
-- Answers {1 for the holder and 0 for everybody else, this server's time in ms, ms for which the holder has heard or -1 where
-- that is not known, ms until the lease ends by itself}.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local found = redis.call('GET', KEYS[1])
if found then
  local holder, since = string.match(found, '^(%S*) ?(%d*)')
  if holder ~= ARGV[1] then
    local heard = tonumber(since) and math.max(0, now - tonumber(since)) or -1
    return { 0, now, heard, redis.call('PTTL', KEYS[1]) }
  end
end
local since = string.format('%.0f', now - tonumber(ARGV[3]))
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. since, 'PX', ARGV[2])
return { 1, now, tonumber(ARGV[3]), tonumber(ARGV[2]) }
