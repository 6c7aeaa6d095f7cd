-- The limiter of many processes: the machine of accounts/limits.py, operation for operation the same as
-- accounts/memory_limits.py. One call is one step, on Redis' clock unless it is told the time.
--
-- KEYS  1 when this store was born, 2 the call's reservation, then one for each demand, in their order
-- ARGV  1 the operation, 2 its arguments as msgpack; what is answered is msgpack too
-- Every number is whole. In front of this stand the constants of accounts/limits.py: SECOND, GRACE, SEED, MARK,
-- WAIT, NEVER (microseconds), LONGEST_LEASE, COUNTER (milliseconds).

local BUCKET, LEASE, HOLD = 1, 2, 3 -- kinds of demands; each is a list that begins with its kind
local operation, given = ARGV[1], cmsgpack.unpack(ARGV[2])
local lease_id, demands = given.lease_id, given.demands

local now = given.now
if now < 0 then
  local time = redis.call("TIME")
  now = tonumber(time[1]) * SECOND + tonumber(time[2])
end

local birth = tonumber(redis.call("GET", KEYS[1]) or "")
if not birth then
  birth = now
  redis.call("SET", KEYS[1], string.format("%.0f", birth))
end

local function milliseconds(microseconds)
  return string.format("%.0f", math.ceil(microseconds / 1000))
end

-- What stands in the way

local verdict = { index = -1, wait = 0, unseeded = {}, marks = {} }

local function blame(index, wait)
  if verdict.wait ~= NEVER and (wait == NEVER or wait > verdict.wait) then
    verdict.index, verdict.wait = index, wait
  end
end

local function refusal()
  if verdict.wait ~= 0 then
    return cmsgpack.pack({ 0, verdict.index, verdict.wait, {}, {} })
  elseif #verdict.unseeded > 0 then
    return cmsgpack.pack({ 0, verdict.unseeded[1], 0, verdict.unseeded, verdict.marks })
  end
end

-- Buckets: a string, "units at"

local function full_of(bucket)
  local _, capacity, limit, period, _, slack = unpack(bucket)
  return math.min(capacity * period + slack * limit, math.max(limit, capacity) * period)
end

local function units_of(key, bucket)
  local limit, full = bucket[3], full_of(bucket)
  local filling = redis.call("GET", key)
  if not filling then
    return full
  end
  local units, at = string.match(filling, "(%S+) (%S+)")
  return math.min(full, tonumber(units) + math.max(0, now - tonumber(at)) * limit)
end

local function bucket_wait(key, bucket, cost)
  local _, capacity, limit, period = unpack(bucket)
  if cost > capacity then
    return NEVER
  end
  local missing = cost * period - units_of(key, bucket)
  return missing > 0 and math.ceil(missing / limit) or 0
end

local function draw(key, bucket, cost)
  local _, _, limit, period = unpack(bucket)
  local full = full_of(bucket)
  local units = math.min(full, units_of(key, bucket) - cost * period)
  local life = milliseconds((full - units) / limit + 2 * period)
  redis.call("SET", key, string.format("%.0f %.0f", units, now), "PX", life)
  return units
end

-- Leases: a sorted set of lease ids, by when they end

local function count_leases(key)
  redis.call("ZREMRANGEBYSCORE", key, "-inf", string.format("%.0f", now))
  return redis.call("ZCARD", key)
end

local function lease(key, until_)
  redis.call("ZADD", key, string.format("%.0f", until_), lease_id)
  redis.call("PEXPIRE", key, LONGEST_LEASE)
end

-- Budgets: a hash of "amount until" by lease id, and the counter itself under ""

local function save(key, counter)
  local state = string.format(
    "%.0f %.0f %.0f %.0f %.0f %.0f",
    counter.spent, counter.seeded_at, counter.settled, counter.held, counter.earliest, counter.calls
  )
  redis.call("HSET", key, "", state)
  redis.call("PEXPIRE", key, COUNTER)
end

local function hold_of(key, id)
  local found = redis.call("HGET", key, id)
  if found then
    local amount, until_ = string.match(found, "(%S+) (%S+)")
    return tonumber(amount), tonumber(until_)
  end
end

local function lapse(key, counter)
  local all, lapsed = redis.call("HGETALL", key), {}
  counter.held, counter.earliest, counter.calls = 0, 0, 0
  for i = 1, #all, 2 do
    if all[i] ~= "" then
      local amount, until_ = string.match(all[i + 1], "(%S+) (%S+)")
      amount, until_ = tonumber(amount), tonumber(until_)
      if until_ + GRACE > now then
        counter.held = counter.held + amount
        counter.earliest = counter.calls > 0 and math.min(counter.earliest, until_) or until_
        counter.calls = counter.calls + 1
      else
        lapsed[#lapsed + 1] = all[i]
      end
    end
  end
  for _, id in ipairs(lapsed) do
    redis.call("HDEL", key, id)
    counter.spent = -1
  end
end

local function believes(hold, counter)
  local settled, asked_at, asked_birth = unpack(hold, 7, 9)
  return now >= birth + given.recovery
    and asked_birth == birth
    and now <= asked_at + MARK
    and counter.settled >= settled
end

local function counter_of(key, hold)
  local counter = { spent = -1, seeded_at = 0, settled = 0, held = 0, earliest = 0, calls = 0 }
  local state = redis.call("HGET", key, "")
  if state then
    local spent, seeded_at, settled, held, earliest, calls =
      string.match(state, "(%S+) (%S+) (%S+) (%S+) (%S+) (%S+)")
    counter.spent, counter.seeded_at, counter.settled = tonumber(spent), tonumber(seeded_at), tonumber(settled)
    counter.held, counter.earliest, counter.calls = tonumber(held), tonumber(earliest), tonumber(calls)
  end
  if counter.calls > 0 and counter.earliest + GRACE <= now then
    lapse(key, counter)
    save(key, counter)
  end
  if counter.spent >= 0 and counter.seeded_at + SEED <= now then
    counter.spent = -1
  end
  local told = hold[6]
  if counter.spent < 0 and told >= 0 and believes(hold, counter) then
    counter.spent = told + counter.settled - hold[7]
    counter.seeded_at = now
    save(key, counter)
  end
  return counter
end

local function known(index, key, hold)
  local counter = counter_of(key, hold)
  if counter.spent < 0 then
    local recovered_at = birth + given.recovery
    if now < recovered_at then
      blame(index, recovered_at - now)
    else
      table.insert(verdict.unseeded, index)
      table.insert(verdict.marks, { counter.settled, now, birth })
      save(key, counter)
    end
  end
  return counter
end

local function offer(index, key, hold)
  local _, amount, wanted, least, share = unpack(hold)
  local counter = known(index, key, hold)
  if counter.spent < 0 then
    return 0
  end
  local free = amount - counter.spent - counter.held
  if free < least then
    blame(index, amount - counter.spent >= least and WAIT or NEVER)
    return 0
  end
  return math.min(wanted, math.max(math.floor(free / share), least))
end

local function judge_growth(index, key, hold, extra)
  local counter = known(index, key, hold)
  local own = hold_of(key, lease_id)
  if not own then
    blame(index, NEVER)
  elseif counter.spent >= 0 and hold[2] - counter.spent - counter.held < extra then
    blame(index, hold[2] - counter.spent - own >= extra and WAIT or NEVER)
  end
end

local function set_aside(key, hold, extra, until_)
  local counter = counter_of(key, hold)
  local amount, before = hold_of(key, lease_id)
  until_ = until_ or before or 0
  counter.earliest = counter.calls > 0 and math.min(counter.earliest, until_) or until_
  if not amount then
    counter.calls = counter.calls + 1
  end
  counter.held = counter.held + extra
  redis.call("HSET", key, lease_id, string.format("%.0f %.0f", (amount or 0) + extra, until_))
  save(key, counter)
end

local function spend(key, hold, spent)
  local counter = counter_of(key, hold)
  local own = hold_of(key, lease_id)
  counter.settled = counter.settled + spent
  if own then
    redis.call("HDEL", key, lease_id)
    counter.calls, counter.held = counter.calls - 1, counter.held - own
    if counter.spent >= 0 then
      counter.spent = counter.spent + spent
    end
  elseif spent > 0 then
    counter.spent = -1
  end
  save(key, counter)
end

-- Reservations: until when

local function reserved()
  local until_ = tonumber(redis.call("GET", KEYS[2]) or "")
  return until_ ~= nil and until_ + GRACE > now
end

local function remember(until_)
  redis.call("SET", KEYS[2], string.format("%.0f", until_), "PX", milliseconds(until_ - now + GRACE))
end

-- The operations

local operations = {}

function operations.reserve()
  local held = -1
  for i, demand in ipairs(demands) do
    local key, kind = KEYS[i + 2], demand[1]
    if kind == BUCKET then
      blame(i - 1, bucket_wait(key, demand, demand[5]))
    elseif kind == LEASE then
      blame(i - 1, count_leases(key) >= demand[2] and WAIT or 0)
    else
      local offered = offer(i - 1, key, demand)
      held = held < 0 and offered or math.min(held, offered)
    end
  end
  local refused = refusal()
  if refused then
    return refused
  end
  held = math.max(held, 0)
  local until_, levels = now + given.duration, {}
  for i, demand in ipairs(demands) do
    local key, kind = KEYS[i + 2], demand[1]
    if kind == BUCKET then
      levels[#levels + 1] = draw(key, demand, demand[5])
    elseif kind == LEASE then
      lease(key, until_)
    else
      set_aside(key, demand, held, until_)
    end
  end
  if #levels > 0 then
    remember(until_)
  end
  return cmsgpack.pack({ 1, held, birth, levels })
end

function operations.grow()
  local bucket = 0
  for i, demand in ipairs(demands) do
    if demand[1] == BUCKET then
      bucket = bucket + 1
      blame(i - 1, bucket_wait(KEYS[i + 2], demand, given.costs[bucket]))
    elseif demand[1] == HOLD and given.extra > 0 then
      judge_growth(i - 1, KEYS[i + 2], demand, given.extra)
    end
  end
  local refused = refusal()
  if refused then
    return refused
  end
  local levels = {}
  for i, demand in ipairs(demands) do
    if demand[1] == BUCKET then
      levels[#levels + 1] = draw(KEYS[i + 2], demand, given.costs[#levels + 1])
    elseif demand[1] == HOLD and given.extra > 0 then
      set_aside(KEYS[i + 2], demand, given.extra, nil)
    end
  end
  return cmsgpack.pack({ 1, 0, birth, levels })
end

function operations.extend()
  local lost, until_ = given.birth ~= birth, now + given.duration
  for i, demand in ipairs(demands) do
    local key, kind = KEYS[i + 2], demand[1]
    if kind == LEASE then
      count_leases(key)
      if lost or redis.call("ZSCORE", key, lease_id) then
        lease(key, until_)
      end
    elseif kind == HOLD then
      counter_of(key, demand)
      local own = hold_of(key, lease_id)
      if lost or own then
        set_aside(key, demand, own and 0 or given.held, until_)
      end
    end
  end
  if reserved() then
    remember(until_)
  end
end

function operations.settle()
  local known_, bucket = reserved(), 0
  redis.call("DEL", KEYS[2])
  for i, demand in ipairs(demands) do
    local key, kind = KEYS[i + 2], demand[1]
    if kind == BUCKET then
      bucket = bucket + 1
      if known_ and given.costs[bucket] ~= demand[5] then
        draw(key, demand, given.costs[bucket] - demand[5])
      end
    elseif kind == LEASE then
      redis.call("ZREM", key, lease_id)
    else
      spend(key, demand, given.spent)
    end
  end
end

function operations.forget()
  for i, demand in ipairs(demands) do
    local counter = counter_of(KEYS[i + 2], demand)
    if counter.spent >= 0 then
      counter.spent = -1
      save(KEYS[i + 2], counter)
    end
  end
end

function operations.explain()
  local states = {}
  for i, demand in ipairs(demands) do
    local key, kind = KEYS[i + 2], demand[1]
    if kind == BUCKET then
      states[i] = { units_of(key, demand) }
    elseif kind == LEASE then
      states[i] = { count_leases(key) }
    else
      local counter = counter_of(key, demand)
      states[i] = { counter.spent, counter.held, counter.calls }
    end
  end
  return cmsgpack.pack(states)
end

return operations[operation]()
