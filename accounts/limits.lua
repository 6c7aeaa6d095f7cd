-- The limiter of many processes: the machine of accounts/limits.py, operation for operation the same as
-- accounts/memory_limits.py. One call is one step, on Redis' clock unless it is told the time.
--
-- KEYS  1 the store: when it was born, when it forgot its budgets, when it was last reached; then one for each
--       shelf of buckets, one for each lease, and one for each hold; the last is the call's reservation
-- ARGV  1 the demands, 2 the operation and what else it is given; both msgpack, as is what is answered
-- Every number is whole. In front of this stand the constants of accounts/limits.py: SECOND, GRACE, SILENCE,
-- SEED, MARK, WAIT, NEVER (microseconds), LONGEST_LEASE, COUNTER (milliseconds).

local demands, given = cmsgpack.unpack(ARGV[1]), cmsgpack.unpack(ARGV[2])
local buckets, shelves, leases, holds = unpack(demands)
local lease_id = given.lease_id
local STORE, RESERVATION = KEYS[1], KEYS[#KEYS]
local FIRST_SHELF, FIRST_LEASE = 1, 1 + #shelves
local FIRST_HOLD = FIRST_LEASE + #leases

local now = given.now
if now < 0 then
  local time = redis.call("TIME")
  now = tonumber(time[1]) * SECOND + tonumber(time[2])
end

local function milliseconds(microseconds)
  return math.ceil(microseconds / 1000)
end

-- The store

local birth, forgot_at, reached_at

local function save_store()
  local state = string.format("%.0f %.0f %.0f", birth, forgot_at, reached_at)
  redis.call("SET", STORE, state, "PX", COUNTER)
end

local store = redis.call("GET", STORE)
if store then
  local born, forgot, reached = string.match(store, "(%S+) (%S+) (%S+)")
  birth, forgot_at, reached_at = tonumber(born), tonumber(forgot), tonumber(reached)
end
if not store or now >= reached_at + SILENCE then
  birth, forgot_at, reached_at = now, now, now
  save_store()
end

-- What stands in the way

local verdict = { index = -1, wait = 0, recovering = false, unseeded = {}, marks = {} }

local function blame(index, wait)
  if verdict.wait ~= NEVER and (wait == NEVER or wait > verdict.wait) then
    verdict.index, verdict.wait = index, wait
  end
end

local function refusal()
  if verdict.wait ~= 0 then
    return cmsgpack.pack({ 0, verdict.index, verdict.wait, {}, {} })
  elseif verdict.recovering then
    return cmsgpack.pack({ -1 })
  elseif #verdict.unseeded > 0 then
    local index = #buckets + #leases + verdict.unseeded[1]
    return cmsgpack.pack({ 0, index, 0, verdict.unseeded, verdict.marks })
  end
end

-- Buckets: a string for each shelf, of two doubles for each bucket on it, what is in it and when it was

local function units_of()
  local units, states = {}, {}
  if #shelves == 0 then
    return units, states
  end
  local found = redis.call("MGET", unpack(KEYS, FIRST_SHELF + 1, FIRST_SHELF + #shelves))
  for s, shelf in ipairs(shelves) do
    local state = found[s] and { struct.unpack(string.rep("dd", #shelf), found[s]) }
    for slot, b in ipairs(shelf) do
      local _, limit, _, full = unpack(buckets[b])
      units[b] = full
      if state then
        local there, at = state[2 * slot - 1], state[2 * slot]
        units[b] = math.min(full, there + math.max(0, now - at) * limit)
      end
    end
    states[s] = state or {}
  end
  return units, states
end

local function judge_buckets(costs)
  local units, states = units_of()
  for i, bucket in ipairs(buckets) do
    local capacity, limit, period = unpack(bucket)
    local missing = costs[i] * period - units[i]
    if costs[i] > capacity then
      blame(i - 1, NEVER)
    elseif missing > 0 then
      blame(i - 1, math.ceil(missing / limit))
    end
  end
  return units, states
end

local function draw(costs, units, states)
  for s, shelf in ipairs(shelves) do
    local state, life = states[s], 0
    for slot, b in ipairs(shelf) do
      local _, limit, period, full = unpack(buckets[b])
      if costs[b] ~= 0 or not state[2 * slot] then
        units[b] = math.min(full, units[b] - costs[b] * period)
        state[2 * slot - 1], state[2 * slot] = units[b], now
      end
      life = math.max(life, (full - units[b]) / limit + 2 * period)
    end
    local packed = struct.pack(string.rep("dd", #shelf), unpack(state))
    redis.call("SET", KEYS[FIRST_SHELF + s], packed, "PX", milliseconds(life))
  end
  return units
end

-- Leases: a sorted set of lease ids, by when they end

local function count_leases(key)
  redis.call("ZREMRANGEBYSCORE", key, "-inf", string.format("%.0f", now))
  return redis.call("ZCARD", key)
end

local function judge_leases()
  for i, limit in ipairs(leases) do
    local key = KEYS[FIRST_LEASE + i]
    if redis.call("ZCARD", key) >= limit and count_leases(key) >= limit then
      blame(#buckets + i - 1, WAIT)
    end
  end
end

-- Budgets: a hash of "amount until" by lease id, and the counter itself under ""

local function save(key, counter, ...)
  local state = string.format(
    "%.0f %.0f %.0f %.0f %.0f %.0f",
    counter.spent, counter.seeded_at, counter.settled, counter.held, counter.earliest, counter.calls
  )
  redis.call("HSET", key, "", state, ...)
  redis.call("PEXPIRE", key, COUNTER)
end

local function hold_of(key)
  local found = redis.call("HGET", key, lease_id)
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

local function believes(told, counter)
  local _, settled, asked_at, asked_birth = unpack(told)
  return now >= birth + given.recovery
    and asked_birth == birth
    and forgot_at <= asked_at
    and now <= asked_at + MARK
    and counter.settled >= settled
end

local function counter_of(key, told)
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
  if counter.seeded_at + SEED <= now or counter.seeded_at < forgot_at then
    counter.spent = -1
  end
  if counter.spent < 0 and told and believes(told, counter) then
    counter.spent = told[1] + counter.settled - told[2]
    counter.seeded_at = now
    save(key, counter)
  end
  return counter
end

local function judge_holds()
  local offered, counters = nil, {}
  for i, hold in ipairs(holds) do
    local amount, share = unpack(hold)
    local key = KEYS[FIRST_HOLD + i]
    local counter = counter_of(key, given.told[i])
    counters[i] = counter
    if counter.spent < 0 then
      if now < birth + given.recovery then
        verdict.recovering = true
      else
        table.insert(verdict.unseeded, i - 1)
        table.insert(verdict.marks, { counter.settled, now, birth })
        save(key, counter)
      end
    else
      local unspent = amount - counter.spent
      local free = unspent - counter.held
      if free < given.least then
        blame(#buckets + #leases + i - 1, unspent >= given.least and WAIT or NEVER)
      else
        local offer = math.min(given.wanted, math.max(math.floor(free / share), given.least))
        offered = offered and math.min(offered, offer) or offer
      end
    end
  end
  return offered or 0, counters
end

local function set_aside(key, counter, amount, until_)
  local before = hold_of(key)
  counter.earliest = counter.calls > 0 and math.min(counter.earliest, until_) or until_
  if not before then
    counter.calls, counter.held = counter.calls + 1, counter.held + amount
  end
  save(key, counter, lease_id, string.format("%.0f %.0f", before or amount, until_))
end

local function spend(key, spent)
  local counter, own = counter_of(key), hold_of(key)
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
  local until_ = tonumber(redis.call("GET", RESERVATION) or "")
  return until_ ~= nil and until_ + GRACE > now
end

local function remember(until_)
  redis.call("SET", RESERVATION, string.format("%.0f", until_), "PX", milliseconds(until_ - now + GRACE))
end

local function restore(held, counters, until_)
  for i = 1, #leases do
    redis.call("ZADD", KEYS[FIRST_LEASE + i], string.format("%.0f", until_), lease_id)
    redis.call("PEXPIRE", KEYS[FIRST_LEASE + i], LONGEST_LEASE)
  end
  for i = 1, #holds do
    local key = KEYS[FIRST_HOLD + i]
    set_aside(key, counters[i] or counter_of(key), held, until_)
  end
end

-- The operations

local operations = {}

function operations.reserve()
  local units, states = judge_buckets(given.costs)
  judge_leases()
  local held, counters = judge_holds()
  local refused = refusal()
  if refused then
    return refused
  end
  local until_ = now + given.duration
  if #buckets > 0 then
    remember(until_)
  end
  restore(held, counters, until_)
  return cmsgpack.pack({ 1, held, draw(given.costs, units, states) })
end

function operations.grow()
  local units, states = judge_buckets(given.costs)
  return refusal() or cmsgpack.pack({ 1, 0, draw(given.costs, units, states) })
end

function operations.reach()
  reached_at = now
  save_store()
end

function operations.extend()
  local until_ = now + given.duration
  restore(given.held, {}, until_)
  if reserved() then
    remember(until_)
  end
end

function operations.settle()
  if #buckets > 0 and reserved() then
    draw(given.costs, units_of())
  end
  redis.call("DEL", RESERVATION)
  for i = 1, #leases do
    redis.call("ZREM", KEYS[FIRST_LEASE + i], lease_id)
  end
  for i = 1, #holds do
    spend(KEYS[FIRST_HOLD + i], given.spent)
  end
end

function operations.forget()
  forgot_at = now
  save_store()
end

function operations.explain()
  local states = {}
  for _, units in ipairs((units_of())) do
    table.insert(states, { units })
  end
  for i = 1, #leases do
    table.insert(states, { count_leases(KEYS[FIRST_LEASE + i]) })
  end
  for i = 1, #holds do
    local counter = counter_of(KEYS[FIRST_HOLD + i])
    table.insert(states, { counter.spent, counter.held, counter.calls })
  end
  return cmsgpack.pack(states)
end

return operations[given.operation]()
