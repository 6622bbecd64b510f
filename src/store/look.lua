-- Where a stream stands, for who does not follow it: nothing changes, and one that does not exist does not begin.
--
-- Answers {epoch, offset, acknowledged}; an empty epoch: there is no such stream.

local stream = look()
if not stream then
  return { '', '0', '0' }
end
return { stream.epoch, text(stream.offset), text(stream.acknowledged) }
