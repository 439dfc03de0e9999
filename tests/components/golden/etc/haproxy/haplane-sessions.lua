-- Written by haplane.
-- Ends the sessions of an apiserver that is down, once nobody is being connected to it any more. One that takes
-- connections and does not answer in time may only be overloaded: it has longer. And while no other is up, that is what
-- it is: ended sessions would all come back at once.
local LOOK_EVERY_MS, AFTER_MS, LATE_MS = 50, 200, 1200
local down_ms = {}
local function is(seen, status) return string.sub(seen.status, 1, string.len(status)) == status end
core.register_task(function()
  while true do
    core.msleep(LOOK_EVERY_MS)
    local seen, others_serve = {}, false
    for name, server in pairs(core.backends["apiservers"].servers) do
      seen[name] = server:get_stats()
      others_serve = others_serve or not (is(seen[name], "DOWN") or is(seen[name], "MAINT"))
    end
    for name, server in pairs(core.backends["apiservers"].servers) do
      down_ms[name] = is(seen[name], "DOWN") and (down_ms[name] or 0) + LOOK_EVERY_MS or 0
      local after_ms = string.find(seen[name].check_status or "", "L[67]TOUT") and LATE_MS or AFTER_MS
      if others_serve and down_ms[name] >= after_ms and tonumber(seen[name].scur) > 0 then server:shut_sess() end
    end
  end
end)
