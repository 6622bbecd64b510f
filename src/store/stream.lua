-- What the scripts of a stream share; it stands in front of each of them.
--
-- KEYS[1]  meta, a hash: epoch, offset (of the newest entry), acknowledged, bytes (of all envelopes), oldest (when the
--          first entry was stored, ms)
-- KEYS[2]  log, a stream: an entry's id is <offset>-0, its fields are t (when it was stored, ms) and e (its envelope)
-- ARGV[1]  a random name, for an epoch that begins
-- ARGV[2]  ms that meta outlives its last use
-- Times are the server's own. Numbers stay below 2^53, so that they are exact here.
--
-- Redis refuses a script at its first write or not at all (memory, a replica, a full disk): so whatever fails has
-- stored nothing, as long as nothing but HSET or XADD comes first.

local meta, log = KEYS[1], KEYS[2]

local function text(number)
  return string.format('%.0f', number)
end

local function milliseconds()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Epochs are <generation>.<random name>: of two histories of a stream, the later one has the higher generation.
local function generation(epoch)
  return tonumber(string.match(epoch, '^(%d+)%.') or '0')
end

-- Where the stream stands, or nil where it has no meta.
local function look()
  local found = redis.call('HMGET', meta, 'epoch', 'offset', 'acknowledged', 'bytes', 'oldest')
  if not found[1] then
    return nil
  end
  return {
    epoch = found[1],
    offset = tonumber(found[2] or '0'),
    acknowledged = tonumber(found[3] or '0'),
    bytes = tonumber(found[4] or '0'),
    oldest = tonumber(found[5] or '0'),
  }
end

local function touch()
  redis.call('PEXPIRE', meta, ARGV[2])
end

-- Begins a history of the stream that is later than both of these; what an earlier one left is dropped.
local function begin(epoch_before, epoch_known)
  local later = math.max(generation(epoch_before), generation(epoch_known)) + 1
  local stream = { epoch = text(later) .. '.' .. ARGV[1], offset = 0, acknowledged = 0, bytes = 0, oldest = 0 }
  redis.call('HSET', meta, 'epoch', stream.epoch, 'offset', '0', 'acknowledged', '0', 'bytes', '0', 'oldest', '0')
  touch()
  redis.call('DEL', log)
  return stream
end

-- Where the stream stands. One that does not exist begins; one that is behind what the caller saw has lost something (a
-- restart without its data, a replica that took over) and begins anew.
local function open(known_epoch, known_offset)
  local stream = look()
  if not stream then
    return begin('', known_epoch)
  end
  local behind
  if known_epoch == stream.epoch then
    behind = tonumber(known_offset) > stream.offset
  else
    behind = generation(known_epoch) > generation(stream.epoch)
  end
  if behind then
    return begin(stream.epoch, known_epoch)
  end
  return stream
end

-- Drops the oldest entries until the rest is within the bounds, at most a few hundred in one call, and never the newest
-- for its size. Entries that nobody acknowledged may have an age of their own. Changes `stream`; the caller writes it.
local function trim(stream, now, bounds)
  local count = redis.call('XLEN', log)
  for _ = 1, 256 do
    local first_offset = stream.offset - count + 1
    local age = bounds.age
    if first_offset > stream.acknowledged then
      age = bounds.unacknowledged_age
    end
    local too_old = stream.oldest + age <= now
    local too_many = count > 1 and (count > bounds.count or stream.bytes > bounds.bytes)
    if count == 0 or not (too_old or too_many) then
      break
    end
    local entries = redis.call('XRANGE', log, '-', '+', 'COUNT', 2)
    redis.call('XDEL', log, entries[1][1])
    stream.bytes = stream.bytes - #entries[1][2][4]
    stream.oldest = entries[2] and tonumber(entries[2][2][2]) or 0
    count = count - 1
  end
end
