-- SPDX-License-Identifier: GPL-2.0-only
--- Packets through the real XDP program where the next hop is not in its tables: it asks the kernel of
--- a network namespace made for this spec, with two ports, and routes and neighbours by hand.
local object = require "tests.helpers.object"
local packet = require "tidegate.packet"
local packets = require "tests.helpers.packets"
local switch = require "tests.helpers.switch"

if switch.refused() then
  pending("the datapath " .. switch.refused())
  return
end

local VIP4, VIP6 = packets.V4.dst, packets.V6.dst
local NETNS = "tg-hop-" .. object.run "echo $PPID"
local IN, OUT = 10, 11 -- interface indexes
local sw

local function ip(command) return object.run(("ip -n %s %s"):format(NETNS, command)) end

--- Two ports; behind OUT: 203.0.113.0/24 and 2001:db8:2::/64 with one known neighbour (.11) each, and a gateway.
local function make_network()
  object.run("ip netns add " .. NETNS)
  for index, name in pairs { [IN] = "in0", [OUT] = "out0" } do
    ip(("link add %s index %d mtu 1400 type veth peer name %s_peer"):format(name, index, name))
    ip(("link set %s address 02:00:00:00:0a:%02d up"):format(name, index))
    ip(("link set %s_peer up"):format(name))
  end
  local forward = "sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1"
  object.run(("nsenter --net=/run/netns/%s %s"):format(NETNS, forward))
  ip "address add 192.0.2.1/24 dev in0"
  ip "address add 203.0.113.1/24 dev out0"
  ip "address add 2001:db8::1/64 dev in0 nodad"
  ip "address add 2001:db8:2::1/64 dev out0 nodad"
  for host, mac in pairs { ["203.0.113.11"] = "0b:11", ["203.0.113.254"] = "0b:fe", ["2001:db8:2::11"] = "0c:11",
    ["2001:db8:2::fe"] = "0c:fe" } do
    ip(("neigh add %s lladdr 02:00:00:00:%s dev out0 nud permanent"):format(host, mac))
  end
  ip "neigh add 192.0.2.7 lladdr 02:00:00:00:0d:07 dev in0 nud permanent"
  ip "neigh add 2001:db8::7 lladdr 02:00:00:00:0d:07 dev in0 nud permanent"
  ip "route add 10.9.0.0/16 via 203.0.113.254"
  ip "route add 2001:db8:9::/48 via 2001:db8:2::fe"
  ip "route add blackhole 10.8.0.0/16"
  ip "route add default via 203.0.113.254"
end

local function open_port(index)
  local bytes = { string.pack("<I4", index):byte(1, 4) }
  local hex = table.concat(bytes, " ")
  object.run(("nsenter --net=/run/netns/%s bpftool map update pinned %s/tx_ports key %s value %s"):format(
    NETNS, sw.object.maps, hex, hex))
end

setup(function()
  sw = switch.new()
  make_network()
end)
teardown(function()
  object.run("ip netns del " .. NETNS)
  sw:close()
end)

local next_port = 1000

--- A VIP with one backend that has no hop; a packet for it, and what becomes of that.
local function send_to(backend, mode, more)
  next_port = next_port + 1
  sw:backend(1, { addr = backend, port = mode == "nat" and 8080 or nil, hop = false })
  local v6 = backend:find ":"
  sw:vip(("%s:%d/tcp"):format(v6 and "[" .. VIP6 .. "]" or VIP4, next_port), { mode = mode, ring = { 1 } })
  local p = (v6 and packets.tcp6 or packets.tcp4)(packets.with({ tcp = { dport = next_port } }, more))
  return sw:receive(p, { netns = NETNS, ifindex = IN }), p
end

local function verdict_of(r) return { r.verdict, r.reason } end

describe("a backend without a next hop", function()
  it("in a port that is not the switch's: l2dsr drops, nat leaves it translated to the stack", function()
    assert.same({ "drop", "no-port" }, verdict_of(send_to("203.0.113.11", "l2dsr")))
    local r, p = send_to("203.0.113.11", "nat")
    assert.same({ "pass", "nat-by-stack" }, verdict_of(r))
    assert.equal(p:copy({ ip = { dst = "203.0.113.11" }, tcp = { dport = 8080 } }):hex(), r.packet:hex())
  end)

  describe("behind a port of the switch", function()
    setup(function() open_port(OUT) end)

    it("is reached through the kernel's neighbour", function()
      for address, mac in pairs { ["203.0.113.11"] = "02:00:00:00:0b:11", ["2001:db8:2::11"] = "02:00:00:00:0c:11" } do
        local r, p = send_to(address, "l2dsr")
        assert.same({ "redirect", "forward" }, verdict_of(r))
        assert.equal(p:copy({ eth = { dst = mac, src = "02:00:00:00:0a:11" } }):hex(), r.packet:hex())
      end
    end)

    it("is reached through a gateway in nat, but not in l2dsr", function()
      for address, mac in pairs { ["10.9.0.1"] = "02:00:00:00:0b:fe", ["2001:db8:9::1"] = "02:00:00:00:0c:fe" } do
        assert.same({ "drop", "unresolved" }, verdict_of(send_to(address, "l2dsr")))
        local r, p = send_to(address, "nat")
        assert.same({ "redirect", "forward" }, verdict_of(r))
        assert.equal(p:copy({ eth = { dst = mac, src = "02:00:00:00:0a:11" },
          ip = { dst = address, ttl = p.ip.ttl - 1 }, tcp = { dport = 8080 } }):hex(), r.packet:hex())
      end
    end)

    it("whose neighbour is not known: l2dsr drops, nat leaves it to the stack, TTL untouched", function()
      for _, address in ipairs { "203.0.113.12", "2001:db8:2::12" } do
        assert.same({ "drop", "unresolved" }, verdict_of(send_to(address, "l2dsr")))
        local r, p = send_to(address, "nat")
        assert.same({ "pass", "nat-by-stack" }, verdict_of(r))
        assert.equal(p:copy({ ip = { dst = address }, tcp = { dport = 8080 } }):hex(), r.packet:hex())
      end
    end)

    it("to which no route leads is a counted drop", function()
      for _, mode in ipairs { "l2dsr", "nat" } do
        assert.same({ "drop", "unresolved" }, verdict_of(send_to("10.8.0.1", mode)))
        assert.same({ "drop", "unresolved" }, verdict_of(send_to("2001:db8:ffff::1", mode)))
      end
    end)

    it("gets no packet larger than the MTU on the way", function()
      for _, mode in ipairs { "l2dsr", "nat" } do
        local r = send_to("203.0.113.11", mode, { payload = ("x"):rep(1361) })
        assert.same({ "pass", "too-big", true }, { r.verdict, r.reason, r.unchanged })
        assert.equal("redirect", send_to("203.0.113.11", mode, { payload = ("x"):rep(1360) }).verdict)
      end
    end)
  end)

  it("by the port that the packet came in by is reached by XDP_TX", function()
    local r = send_to("192.0.2.7", "l2dsr")
    assert.same({ "tx", "forward", "02:00:00:00:0d:07" }, { r.verdict, r.reason, r.packet.eth.dst })
  end)
end)

describe("a backend's hop", function()
  it("by another port of the switch is a redirect", function()
    open_port(OUT)
    local hop = { ifindex = OUT, dmac = "02:00:00:00:0e:01", smac = "02:00:00:00:0e:02" }
    sw:backend(2, { addr = "203.0.113.99", hop = hop })
    sw:vip(VIP4 .. ":900/tcp", { ring = { 2 } })
    local r = sw:receive(packets.tcp4 { tcp = { dport = 900 } }, { netns = NETNS, ifindex = IN })
    assert.same({ "redirect", "forward", "02:00:00:00:0e:01" }, { r.verdict, r.reason, r.packet.eth.dst })
  end)
end)

describe("a reply without a route in the tables", function()
  local function reply(client, more)
    local given = { ip = { src = "203.0.113.11", dst = client }, tcp = { sport = 8080, dport = 40000, flags = "A" } }
    return packet(packets.with(given, more))
  end

  setup(function()
    sw:backend(3, { addr = "203.0.113.11", port = 8080 })
    sw:reverse("203.0.113.11:8080/tcp", VIP4 .. ":443/tcp", { backend = 3 })
    open_port(IN)
  end)

  local function receive(p) return sw:receive(p, { netns = NETNS, ifindex = OUT }) end

  it("goes where the kernel says", function()
    local p = reply "192.0.2.7"
    local r = receive(p)
    assert.same({ "redirect", "forward" }, verdict_of(r))
    assert.equal(p:copy({ eth = { dst = "02:00:00:00:0d:07", src = "02:00:00:00:0a:10" }, ip = { src = VIP4, ttl = 63 },
      tcp = { sport = 443 } }):hex(), r.packet:hex())
  end)

  it("to a client whose neighbour is not known goes to the stack, as the VIP's", function()
    local p = reply "192.0.2.8"
    local r = receive(p)
    assert.same({ "pass", "nat-by-stack" }, verdict_of(r))
    assert.equal(p:copy({ ip = { src = VIP4 }, tcp = { sport = 443 } }):hex(), r.packet:hex())
  end)

  it("to an address of the switch itself passes untouched", function()
    local r = receive(reply "203.0.113.1")
    assert.same({ "pass", "local-reply", true }, { r.verdict, r.reason, r.unchanged })
  end)

  it("to an address of the switch itself passes where the kernel doesn't forward, too", function()
    local function forward(on)
      object.run(("nsenter --net=/run/netns/%s sysctl -qw net.ipv4.ip_forward=%d"):format(NETNS, on))
    end
    forward(0)
    local r = receive(reply "203.0.113.1")
    local drop = send_to("10.9.0.1", "nat")
    forward(1)
    assert.same({ "pass", "local-reply", true }, { r.verdict, r.reason, r.unchanged })
    assert.same({ "drop", "unresolved" }, verdict_of(drop))
  end)

  it("to where no route leads is a counted drop", function()
    assert.same({ "drop", "unresolved" }, verdict_of(receive(reply "10.8.0.1")))
  end)
end)
