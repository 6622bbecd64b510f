-- Gives the lease up: 1 if it was the caller's.
--
-- KEYS[1]  the lease; ARGV[1] who gives it up

local found = redis.call('GET', KEYS[1])
if not found or string.match(found, '^%S*') ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
