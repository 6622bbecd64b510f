-- Entries after an offset.
--
-- ARGV[3], ARGV[4]  epoch and offset that the reader has
-- ARGV[5]           entries at most
-- ARGV[6]           ms that meta outlives its last use while nothing was ever stored
-- ARGV[7]           of a queue: ms that the log outlives its last use
--
-- Answers {epoch, offset, acknowledged, entries, rest}; nil in the place of entries: the epoch is no part of the stream's
-- history, or ends before the offset, or what follows it is gone. Whether the entries follow it without a hole is for the
-- reader to see by their ids. What follows `rest` is there, and was not seen by the reader. A stream that does not exist does not
-- begin: its epoch is empty.

if not look() then
  return { '', '0', '0', false, '0' }
end
local stream = open('', 0)
touch(stream, ARGV[6])
if ARGV[7] then
  redis.call('PEXPIRE', log, ARGV[7])
end
local after, reached = tonumber(ARGV[4]), reach(stream, ARGV[3])
local seen = reached and math.min(after, reached) or seen_by_strangers(stream)
local rest = math.max(seen, stream.offset - redis.call('XLEN', log))
local entries = false
if reached and rest == after then
  entries = redis.call('XRANGE', log, text(after + 1) .. '-0', '+', 'COUNT', ARGV[5])
end
return { stream.epoch, text(stream.offset), text(stream.acknowledged), entries, text(rest) }
