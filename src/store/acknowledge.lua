-- Clients have everything up to an offset. What is acknowledged stays so, and never passes the newest entry.
--
-- ARGV[3], ARGV[4]   epoch and offset that they have; without an epoch, the present one is meant
-- ARGV[5] .. ARGV[8] bounds of the log, as for an append
--
-- Answers the acknowledged offset as it is now. An epoch that is no part of the stream's history counts for nothing.

local stream = look()
if not stream then
  return '0'
end
local epoch = ARGV[3] ~= '' and ARGV[3] or stream.epoch
local offset = math.min(tonumber(ARGV[4]), reach(stream, epoch) or 0)
if offset > stream.acknowledged then
  stream.acknowledged = offset
  -- First, since it is the one that Redis may refuse.
  redis.call('HSET', meta, 'acknowledged', text(offset))
  trim(stream, milliseconds(), {
    count = tonumber(ARGV[5]),
    bytes = tonumber(ARGV[6]),
    age = tonumber(ARGV[7]),
    unacknowledged_age = tonumber(ARGV[8]),
  })
  redis.call('HSET', meta, 'bytes', text(stream.bytes), 'oldest', text(stream.oldest))
  if offset == stream.offset and redis.call('PTTL', log) > tonumber(ARGV[7]) then
    redis.call('PEXPIRE', log, ARGV[7])
  end
  touch(stream)
end
return text(stream.acknowledged)
