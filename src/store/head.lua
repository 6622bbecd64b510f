-- Where a stream stands; one that does not exist begins, so that its epoch is the one of its first entry.
--
-- ARGV[8]  ms that meta outlives its last use while nothing was ever stored
--
-- Answers {epoch, offset, acknowledged}.

local stream = open(ARGV[3], ARGV[4])
touch(stream, ARGV[8])
return { stream.epoch, text(stream.offset), text(stream.acknowledged) }
