-- What the scripts of a stream share; it stands in front of each of them.
--
-- KEYS[1]  meta, a hash: epoch, offset (of the newest entry), acknowledged, bytes (of all envelopes), oldest (when the
--          first entry was stored, ms), run (of the server, when the epoch began), past (epochs that went on in this
--          one, each with the offset at which it ended, the newest first), cut (the offset at which earlier epochs parted)
-- KEYS[2]  log, a stream: an entry's id is <offset>-0, its fields are t (when it was stored, ms) and e (its envelope)
-- ARGV[1]  a random name, for an epoch that begins
-- ARGV[2]  ms that meta outlives its last use
-- ARGV[3], ARGV[4] epoch and offset that the caller saw last; '' and 0: none. Of head and append alone, as all of these
-- ARGV[5], ARGV[6] PUBLISH or SPUBLISH, and the channel
-- ARGV[7]  the stream
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

-- Names this run of the server. Another one means that it started again, or that another server has the stream now, and
-- nobody can tell whether that one had everything. Empty where the user of Redis may not know it.
local function run()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%x+)') or ''
end

-- Epochs are <generation>.<random name>: of two histories of a stream, the later one has the higher generation.
local function generation(epoch)
  return tonumber(string.match(epoch, '^(%d+)%.') or '0')
end

-- Where the stream stands, or nil where it has no meta.
local function look()
  local found = redis.call('HMGET', meta, 'epoch', 'offset', 'acknowledged', 'bytes', 'oldest', 'run', 'past', 'cut')
  if not found[1] then
    return nil
  end
  return {
    epoch = found[1],
    offset = tonumber(found[2] or '0'),
    acknowledged = tonumber(found[3] or '0'),
    bytes = tonumber(found[4] or '0'),
    oldest = tonumber(found[5] or '0'),
    run = found[6] or '',
    past = found[7] or '',
    cut = tonumber(found[8] or '0'),
  }
end

-- It is used. Where nothing was ever stored it may go sooner.
local function touch(stream, empty_age)
  redis.call('PEXPIRE', meta, stream.offset == 0 and empty_age or ARGV[2])
end

-- An epoch that is later than both of these.
local function later(epoch_before, epoch_known)
  return text(math.max(generation(epoch_before), generation(epoch_known)) + 1) .. '.' .. ARGV[1]
end

-- Up to which offset an epoch is a part of the stream's history; nil: it is none.
local function reach(stream, epoch)
  if epoch == stream.epoch then
    return stream.offset
  end
  for past, last in string.gmatch(stream.past, '(%S+) (%d+)') do
    if past == epoch then
      return tonumber(last)
    end
  end
end

-- Up to which offset somebody may have seen it who comes by an epoch that is no part of its history: as far as epochs
-- parted, or all of it where there may have been more since then than are remembered.
local function seen_by_strangers(stream)
  local _, count = string.gsub(stream.past, '%S+ %d+', '')
  return count >= 8 and stream.offset or stream.cut
end

-- Begins a history of the stream. Entries without meta are of nobody.
local function begin(epoch_known)
  local epoch = later('', epoch_known)
  local stream = { epoch = epoch, offset = 0, acknowledged = 0, bytes = 0, oldest = 0, run = run(), past = '', cut = 0 }
  redis.call('HSET', meta, 'epoch', epoch, 'offset', '0', 'acknowledged', '0', 'bytes', '0', 'oldest', '0')
  redis.call('HSET', meta, 'run', stream.run, 'past', '', 'cut', '0')
  touch(stream)
  redis.call('DEL', log)
  return stream
end

-- The epochs that the stream came by and the one that ends now, each with the offset at which it ended.
local function ends(stream)
  local past = { stream.epoch .. ' ' .. text(stream.offset) }
  for epoch, last in string.gmatch(stream.past, '(%S+) (%d+)') do
    if #past < 8 then
      past[#past + 1] = epoch .. ' ' .. last
    end
  end
  return table.concat(past, ' ')
end

-- The stream goes on from here under another name, so that what was stored after this offset and lost, if there was
-- anything, will not be mistaken for what comes now. Its entries stay.
local function go_on(stream, epoch_known, this_run, past)
  stream.epoch, stream.run, stream.past = later(stream.epoch, epoch_known), this_run, past
  if past == '' then
    stream.cut = stream.offset
  end
  redis.call('HSET', meta, 'epoch', stream.epoch, 'run', stream.run, 'past', stream.past, 'cut', text(stream.cut))
end

-- Whether there was something at this place that is not here any more: of an epoch that ended before it, or of one that is
-- not here and later than the first of those that are. Of earlier ones nobody can tell.
local function lost(stream, epoch, offset)
  local last = reach(stream, epoch)
  if last then
    return offset > last
  end
  local oldest = string.match(stream.past, '(%S+) %d+$') or stream.epoch
  return generation(epoch) > generation(oldest)
end

-- Where the stream stands. One that does not exist begins; one that is of another run of the server goes on, and earlier
-- epochs join it. Where something is lost that the caller saw none does, since whoever came by them may have missed just
-- that: so whoever follows is told to look.
local function open(known_epoch, known_offset)
  local stream = look()
  if not stream then
    return begin(known_epoch)
  end
  local this_run = run()
  if lost(stream, known_epoch, tonumber(known_offset)) then
    go_on(stream, known_epoch, this_run, '')
    -- It is done, whatever becomes of this: a user without permission for the channel must not make it look refused.
    redis.pcall(ARGV[5], ARGV[6], 'H ' .. stream.epoch .. ' ' .. text(stream.offset) .. ' ' .. ARGV[7])
  elseif stream.run ~= this_run then
    go_on(stream, known_epoch, this_run, ends(stream))
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
