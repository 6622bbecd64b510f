-- Where a stream stands; one that does not exist begins, so that its epoch is the one of its first entry.
--
-- Answers {epoch, offset, acknowledged}.

local stream = open(ARGV[3], ARGV[4])
touch()
return { stream.epoch, text(stream.offset), text(stream.acknowledged) }
