-- Entries after an offset.
--
-- ARGV[3], ARGV[4]  epoch and offset that the reader has
-- ARGV[5]           entries at most
--
-- Answers {epoch, offset, acknowledged, entries}; nil in the place of entries: the epoch is no part of the stream's history,
-- or ends before the offset. Whether the entries follow it without a hole is for the reader to see by their ids.

local stream = open('', 0)
touch()
local after = tonumber(ARGV[4])
local entries = false
if after <= (reach(stream, ARGV[3]) or -1) then
  entries = redis.call('XRANGE', log, text(after + 1) .. '-0', '+', 'COUNT', ARGV[5])
end
return { stream.epoch, text(stream.offset), text(stream.acknowledged), entries }
