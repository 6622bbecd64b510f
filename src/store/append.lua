-- Stores an event as the next entry of its stream, and publishes it.
--
-- KEYS[3]  the idempotency key, where the caller has one: a string "<body> <epoch> <offset>"
-- ARGV[8] .. ARGV[11] bounds of the log: entries, bytes, ms of an entry, ms of one that is not acknowledged
-- ARGV[12] the envelope
-- ARGV[13], ARGV[14] hash of the body, and ms that the key is honoured; only with a key
-- And next, where its writer numbers what it stores: 'by', the writer, the number, writers that are known at most. The number of
-- each writer's last entry is in meta, with its offset: "by <writer>" → "<number> <offset>"; numbers grow
-- And next, where it is stored on a condition alone:
-- 'follows'          what the caller saw is a part of the stream's history, or the caller saw nothing and there is nothing
-- 'before', a time   it is not that late yet, ms
-- 'fewer', a time, n fewer than n equal entries were stored since then, ms
--
-- Answers {'appended', epoch, offset, whether it was published}, {'repeated', epoch, offset}, {'reused'}, {'late'} (also where its
-- writer has stored a later one) or {'parted'}: it does not follow.

-- Offset of the entry that makes them so many with that envelope since that time, counted from the newest; nil: there are
-- fewer.
local function equal(envelope, since, count)
  local newest, page = '+', 8
  while true do
    page = math.min(page * 2, 256)
    local entries = redis.call('XREVRANGE', log, newest, '-', 'COUNT', page)
    for _, entry in ipairs(entries) do
      local offset = tonumber(string.match(entry[1], '^%d+'))
      if tonumber(entry[2][2]) < since then
        return nil
      end
      if entry[2][4] == envelope then
        count = count - 1
        if count == 0 then
          return text(offset)
        end
      end
      newest = text(offset - 1)
    end
    if #entries < page then
      return nil
    end
  end
end

-- The writer stored this. Of too many writers the one is forgotten that stored something longest ago.
local function note(writer, number, offset, writers_max)
  if redis.call('HSET', meta, 'by ' .. writer, number .. ' ' .. offset) == 0 then
    return
  end
  local fields = redis.call('HGETALL', meta)
  local count, oldest, first = 0, nil, nil
  for at = 1, #fields, 2 do
    if string.sub(fields[at], 1, 3) == 'by ' then
      local last = tonumber(string.match(fields[at + 1], '%d+$'))
      count = count + 1
      if not first or last < first then
        oldest, first = fields[at], last
      end
    end
  end
  if count > writers_max then
    redis.call('HDEL', meta, oldest)
  end
end

local key, at = KEYS[3], 13
if key then
  at = 15
end
local writer, number, writers_max
if ARGV[at] == 'by' then
  writer, number, writers_max = ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  at = at + 4
end
local condition, time, count = unpack(ARGV, at)
local is_there = condition == 'follows' and look()
if condition == 'follows' and not is_there and ARGV[4] ~= '0' then
  return { 'parted' }
end
local stream = open(ARGV[3], ARGV[4])
if condition == 'follows' and is_there and tonumber(ARGV[4]) > (reach(stream, ARGV[3]) or -1) then
  return { 'parted' }
end
if key then
  local first = redis.call('GET', key)
  if first then
    local body, epoch, offset = string.match(first, '^(%S+) (%S+) (%S+)$')
    if body ~= ARGV[13] then
      return { 'reused' }
    end
    if tonumber(offset) <= (reach(stream, epoch) or -1) then
      epoch = stream.epoch
    end
    return { 'repeated', epoch, offset }
  end
end
local last = writer and redis.call('HGET', meta, 'by ' .. writer)
if last then
  local stored, offset = string.match(last, '^(%d+) (%d+)$')
  if stored == number then
    return { 'repeated', stream.epoch, offset }
  elseif tonumber(stored) > tonumber(number) then
    return { 'late' }
  end
end

local now = milliseconds()
local envelope = ARGV[12]
if condition == 'before' and now >= tonumber(time) then
  return { 'late' }
end
if condition == 'fewer' then
  local offset = equal(envelope, tonumber(time), tonumber(count))
  if offset then
    return { 'repeated', stream.epoch, offset }
  end
end
if redis.call('XLEN', log) == 0 then
  -- The last entries went by the age of the whole log.
  stream.bytes, stream.oldest = 0, now
end
stream.offset = stream.offset + 1
local offset = text(stream.offset)
redis.call('XADD', log, offset .. '-0', 't', text(now), 'e', envelope)
stream.bytes = stream.bytes + #envelope
trim(stream, now, {
  count = tonumber(ARGV[8]),
  bytes = tonumber(ARGV[9]),
  age = tonumber(ARGV[10]),
  unacknowledged_age = tonumber(ARGV[11]),
})
redis.call('HSET', meta, 'offset', offset, 'bytes', text(stream.bytes), 'oldest', text(stream.oldest))
touch(stream)
-- Without its meta nobody reads it.
redis.call('PEXPIRE', log, math.min(tonumber(ARGV[11]), tonumber(ARGV[2])))
if key then
  redis.call('SET', key, ARGV[13] .. ' ' .. stream.epoch .. ' ' .. offset, 'PX', ARGV[14])
end
if writer then
  note(writer, number, offset, writers_max)
end

-- It is stored, whatever becomes of this: a user without permission for the channel must not make it look refused.
local sent = redis.pcall(ARGV[5], ARGV[6], 'S ' .. stream.epoch .. ' ' .. offset .. ' ' .. envelope)
local published = type(sent) == 'number' and '1' or '0'
return { 'appended', stream.epoch, offset, published }
