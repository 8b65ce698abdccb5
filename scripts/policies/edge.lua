-- SPDX-License-Identifier: GPL-2.0-only
--
-- The edge of a network: web servers for everybody, logins for the staff, and otherwise only what was asked for from
-- inside. What nobody asked for is dropped.
local tg = require "tidegate"

local wan = tg.port "eth0"

tg.set("staff"):add { "198.51.100.0/28", "2001:db8:5::/48" }

wan:policy("ingress", {
  default = "drop", stateful = true, -- the answers to what goes out come in, and ICMP errors about it
  { "accept", proto = "tcp", dport = { 80, 443 }, name = "web" },
  { "accept", proto = "tcp", dport = 22, src = "@staff", name = "ssh" },
  { "accept", proto = { "icmp", "icmp6" }, icmp_type = "echo-request", name = "ping" },
  { "reject", proto = "tcp", dport = 113 }, -- ident: mail servers wait for its answer
})

-- Nobody spoofs from here.
wan:policy("egress", {
  default = "drop",
  { "accept", src = { "192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32", "fe80::/10" } },
})
