-- SPDX-License-Identifier: GPL-2.0-only
--
-- A web service in nat mode: the switch puts a backend's address and port in the place of the
-- VIP's, and the VIP's back into the answers. The backends know nothing of the VIP and may listen
-- on another port; in return their answers have to come back through this switch.
local tg = require "tidegate"

tg.port "eth0" -- the clients' side
tg.port "eth1" -- the backends' side: answers are translated where they arrive

tg.service {
  name = "web",
  mode = "nat",
  vip = { "198.51.100.80:80/tcp", "[2001:db8::80]:80/tcp" },
  backends = {
    "10.0.0.11:8080", { "10.0.0.12:8080", weight = 2 }, "[2001:db8:1::11]:8080", "[2001:db8:1::12]:8080",
  },
  check = { "http", path = "/healthz", interval = 0.5, timeout = 0.3 },
}

-- An event is delivered as a task: it may wait, ask the network, change weights.
tg.on("backend.*", function(ev)
  tg.log.warn("%s: %s of %s: %s", ev.name, ev.backend, ev.service, ev.reason)
end)
