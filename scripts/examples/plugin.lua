-- SPDX-License-Identifier: GPL-2.0-only
--
-- Health checks of your own: a check is a function that gets a target and says whether it is up. It
-- runs as a task for each probe, so it may wait; what it raises, or takes too long for, counts as "no".
-- The rise and fall, the interval and the timeout are those of every check.
--
-- `require` looks beside this file, then in the operator's library (scripts/, or share/tidegate).
local tg = require "tidegate"

local redis = require "checks.redis"
local dns = require "checks.dns"

tg.check.define(redis.name, redis.check)
tg.check.define(dns.name, dns.check)

tg.port "eth0"

tg.service {
  name = "cache",
  mode = "l2dsr",
  vip = "198.51.100.10:6379/tcp",
  backends = { "10.0.0.11", "10.0.0.12", "10.0.0.13" },
  check = { "redis", interval = 0.5, timeout = 0.3 },
}

tg.service {
  name = "names",
  mode = "l2dsr",
  vip = "198.51.100.10:53/udp",
  backends = { "10.0.0.11", "10.0.0.12" },
  check = { "dns", name = "health.example.org", interval = 0.5, timeout = 0.3 },
}
