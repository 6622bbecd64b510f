-- Lets go of the log of a queue, unless the event has another by now.
--
-- ARGV[3]  an epoch of the log
--
-- Answers how many keys there were.

local stream = look()
if not stream or not reach(stream, ARGV[3]) then
  return 0
end
return redis.call('UNLINK', meta, log)
