-- Gives the lease up: 1 if it was the caller's.
--
-- KEYS[1]  the lease; ARGV[1] who gives it up

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
