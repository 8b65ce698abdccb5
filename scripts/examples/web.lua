-- SPDX-License-Identifier: GPL-2.0-only
--
-- The first script: a web service on IPv4 and IPv6, spread over four backends. scripts/demo runs it.
--
-- Direct server return: the switch hands a client's packets to a backend as they are, and the
-- backend answers the client itself. So each backend has the service's addresses on its lo, and
-- serves the same port (scripts/lab sets that up; README.md has the commands for a host).
local tg = require "tidegate"

tg.port "eth0" -- where the clients' packets arrive

local app = tg.pool {
  name = "app",
  backends = {
    "10.0.0.11", "10.0.0.12", "10.0.0.13", "10.0.0.14",
    "2001:db8:1::11", "2001:db8:1::12", "2001:db8:1::13", "2001:db8:1::14",
  },
  -- Three answers missing in a row and a backend is out, two good ones and it is back.
  check = { "http", path = "/healthz", interval = 0.5, timeout = 0.3, rise = 2, fall = 3 },
}

tg.service {
  name = "web",
  mode = "l2dsr",
  vip = { "198.51.100.10:80/tcp", "[2001:db8::10]:80/tcp" },
  backends = app,
}
