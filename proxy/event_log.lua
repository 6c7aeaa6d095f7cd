-- The event logs of streams: what proxy/redis_event_log.py writes and reads, one operation a call.
--
-- A log is a Redis Stream whose ids are the positions of proxy/event_log.py: "number-piece". Of all logs there are
-- three indexes, by which those that expire first make room for others.
--
-- KEYS  1 sizes (a hash), 2 when each log expires (a sorted set), 3 bytes in all, then the logs
-- ARGV  1 the operation, then what it says; what is answered is a string, or what was read
-- In front of this stand the constants of proxy/event_log.py: KEPT, LONGEST (seconds), MAX_TOTAL, ENTRY (bytes).

local sizes, expiries, total = KEYS[1], KEYS[2], KEYS[3]
local now = tonumber(redis.call("TIME")[1])

local function drop(log)
  local size = tonumber(redis.call("HGET", sizes, log) or "0")
  redis.call("HDEL", sizes, log)
  redis.call("ZREM", expiries, log)
  redis.call("UNLINK", log)
  redis.call("DECRBY", total, size)
end

-- Lets go what expired, and then what expires next, while there is too much. A few at a time: this is done often.
local function make_room()
  for _, log in ipairs(redis.call("ZRANGEBYSCORE", expiries, "-inf", now, "LIMIT", 0, 64)) do
    drop(log)
  end
  while tonumber(redis.call("GET", total) or "0") > MAX_TOTAL do
    local next = redis.call("ZRANGE", expiries, 0, 0)[1]
    if not next then
      return
    end
    drop(next)
  end
end

local function expire(log, seconds)
  redis.call("EXPIRE", log, seconds)
  redis.call("ZADD", expiries, now + seconds, log)
end

-- Whether it was added: an id that is not behind all others is refused.
local function add(log, id, events, mark)
  local added = redis.pcall("XADD", log, id, "e", events, "m", mark)
  if type(added) == "table" and added.err then
    return false
  end
  redis.call("HINCRBY", sizes, log, #events + ENTRY)
  redis.call("INCRBY", total, #events + ENTRY)
  if mark ~= "" then
    expire(log, KEPT)
  elseif redis.call("XLEN", log) == 1 then
    expire(log, LONGEST)
  end
  return true
end

local operations = {}

-- For each log: how many entries it must have, then an entry: id, events, mark. Answers "1" for each that was
-- added, "2" where somebody else writes the log, "0" where it cannot be whole any more.
function operations.append()
  local answers = {}
  for index = 4, #KEYS do
    local place = 2 + (index - 4) * 4
    local there, expected = redis.call("XLEN", KEYS[index]), tonumber(ARGV[place])
    if there ~= expected then
      answers[#answers + 1] = there == 0 and "0" or "2"
    else
      local added = add(KEYS[index], ARGV[place + 1], ARGV[place + 2], ARGV[place + 3])
      answers[#answers + 1] = added and "1" or "0"
    end
  end
  make_room()
  return table.concat(answers)
end

-- Says of a log that it misses events, unless somebody else writes it. Doing so twice does no harm.
function operations.shatter()
  local there, written = redis.call("XLEN", KEYS[4]), tonumber(ARGV[2])
  if there == 0 or there == written or there == written - 1 then
    add(KEYS[4], ARGV[3], "", "broken")
  end
  return ""
end

function operations.forget()
  drop(KEYS[4])
  return ""
end

-- Entries behind an id, at least one where there is one, and no more than so many, or so many bytes and one.
function operations.read()
  local found, bytes, after = {}, 0, ARGV[2]
  while #found < tonumber(ARGV[3]) and bytes < tonumber(ARGV[4]) do
    local entries = redis.call("XRANGE", KEYS[4], "(" .. after, "+", "COUNT", 8)
    for _, entry in ipairs(entries) do
      after = entry[1]
      bytes = bytes + #entry[2][2]
      found[#found + 1] = { after, entry[2][2], entry[2][4] }
    end
    if #entries < 8 then
      break
    end
  end
  return found
end

-- Ends the wait of a process for what it follows.
function operations.wake()
  redis.call("XADD", KEYS[4], "MAXLEN", 1, "*", "e", "", "m", "")
  redis.call("EXPIRE", KEYS[4], 60)
  return ""
end

return operations[ARGV[1]]()
