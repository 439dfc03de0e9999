-- Written by haplane.
-- Ends the sessions of an apiserver that is down, once nobody is being connected to it any more. One that takes
-- connections and does not answer in time may only be overloaded: it has longer, as long as the handshakes of all that
-- are there may take. And while no other has been up for a while, that is what it is: ended sessions would all come
-- back at once, and the next one would be late. One that has just answered again loses nothing.
local LOOK_EVERY_MS, AFTER_MS = 50, 200
local LATE_MS, EACH_MS, LATE_AT_MOST_MS, STEADY_S = 1000, 5, 10000, 10
local LOST_MANY, LOST_PART, AVOIDED_MS = 4, 4, 1000
local OWES_MANY, SILENT_MS = 3, 40
local down_ms, had, avoided = {}, {}, nil
-- Of each apiserver how many new clients it owes an answer since it last gave one to somebody new, and since when.
local owed = {}
local function now_ms()
  local now = core.now()
  return now.sec * 1000 + now.usec / 1000
end
local function is(seen, status) return string.sub(seen.status, 1, string.len(status)) == status end
local function is_steady(seen) return seen.status == "UP" and (tonumber(seen.lastchg) or 0) >= STEADY_S end
local function avoid(name, server, is_silent)
  server:set_weight("0%")
  avoided = {name = name, server = server, ms = 0, until_it_answers = is_silent}
end
local function avoid_nobody()
  avoided.server:set_weight("100%")
  owed[avoided.name], avoided = nil, nil
end
core.register_task(function()
  while true do
    core.msleep(LOOK_EVERY_MS)
    local seen, others_serve, others_are_steady = {}, false, false
    for name, server in pairs(core.backends["apiservers"].servers) do
      seen[name] = server:get_stats()
      others_serve = others_serve or not (is(seen[name], "DOWN") or is(seen[name], "MAINT"))
      others_are_steady = others_are_steady or is_steady(seen[name])
    end
    for name, server in pairs(core.backends["apiservers"].servers) do
      down_ms[name] = is(seen[name], "DOWN") and (down_ms[name] or 0) + LOOK_EVERY_MS or 0
      if down_ms[name] > 0 then owed[name] = nil end
      local after_ms, may_end, sessions = AFTER_MS, others_serve, tonumber(seen[name].scur)
      local check = seen[name].check_status or ""
      if string.find(check, "L[67]TOUT") then
        after_ms = AFTER_MS + math.min(math.max(LATE_MS, EACH_MS * sessions), LATE_AT_MOST_MS)
        may_end = others_are_steady
      elseif string.find(check, "L[467]OK") then
        may_end = false
      end
      if may_end and down_ms[name] >= after_ms and sessions > 0 then server:shut_sess() end
      -- Half of what is lost is forgotten at each look.
      had[name] = math.max(sessions, ((had[name] or 0) + sessions) / 2)
    end
    if avoided then
      avoided.ms = avoided.ms + LOOK_EVERY_MS
      -- UP 2/4: its checks fail, and it is not known yet what it is.
      if avoided.ms >= AVOIDED_MS and not is(seen[avoided.name], "UP ") then avoid_nobody() end
    end
  end
end)
-- When a process dies its connections are closed one after the other, the newest first and the listener last. Whoever
-- was connected comes back at once, and leastconn would send them all to where there are fewer now. So one that loses
-- many within a moment is left alone until its checks have said what it is. So is one that hangs: its kernel takes what
-- leastconn sends to one that has few, just back, and nobody gets an answer; until it gives one. Where another owes as
-- many answers the machines are only busy. Never two, and never the only one.
core.register_action("leave_alone", { "tcp-req" }, function(txn)
  if avoided or txn.f:nbsrv("apiservers") < 2 then return end
  local silent = {}
  for name, server in pairs(core.backends["apiservers"].servers) do
    local sessions = txn.f:srv_conn("apiservers/" .. name)
    local lost = (had[name] or 0) - sessions
    if lost >= LOST_MANY and lost * LOST_PART >= had[name] then return avoid(name, server, false) end
    local owes = owed[name]
    if owes and owes.count >= OWES_MANY and now_ms() - owes.since_ms >= SILENT_MS then table.insert(silent, name) end
  end
  if #silent == 1 then avoid(silent[1], core.backends["apiservers"].servers[silent[1]], true) end
end)
-- It is called again when there is more to see.
core.register_action("asked", { "tcp-res" }, function(txn)
  local name = txn:get_var("txn.asks") and txn.f:srv_name()
  if not name then return end
  txn:unset_var("txn.asks")
  local owes = owed[name] or {count = 0, since_ms = now_ms()}
  owes.count = owes.count + 1
  owed[name] = owes
end)
core.register_action("answered", { "tcp-res" }, function(txn)
  local name = txn.f:srv_name()
  if not name then return end
  owed[name] = nil
  if avoided and avoided.name == name and avoided.until_it_answers then avoid_nobody() end
end)
