-- Written by haplane.
-- Ends the sessions of an apiserver that is down, once nobody is being connected to it any more.
local LOOK_EVERY_MS, AFTER_MS = 50, 200
local down_ms = {}
core.register_task(function()
  while true do
    core.msleep(LOOK_EVERY_MS)
    for name, server in pairs(core.backends["apiservers"].servers) do
      local seen = server:get_stats()
      down_ms[name] = string.sub(seen.status, 1, 4) == "DOWN" and (down_ms[name] or 0) + LOOK_EVERY_MS or 0
      if down_ms[name] >= AFTER_MS and tonumber(seen.scur) > 0 then server:shut_sess() end
    end
  end
end)
