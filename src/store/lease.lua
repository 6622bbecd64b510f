-- Takes the lease, or keeps it: 1 for its holder, 0 for everybody else.
--
-- KEYS[1]  the lease, a string: its holder
-- ARGV[1]  who asks; ARGV[2] ms that the lease is given for

local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
