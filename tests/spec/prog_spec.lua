--- Programs run on packets (tests/bpf/kinds.bpf.c).
local object = require "tests.helpers.object"
local prog = tg.prog

if object.refused() then
  pending("tg.prog " .. object.refused())
  return
end

local kinds
setup(function() kinds = object.load "tests/bpf/kinds" end)
teardown(function() kinds:close() end)

local function open(name) return assert(prog.open(kinds.progs .. "/" .. name)) end

local packet = string.char(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0) .. ("x"):rep(46)

describe("a program", function()
  it("answers a packet with its verdict and the packet as it left it", function()
    local p <close> = open "answer"
    local r = p:run(packet)
    assert.same({ "tx", 3 }, { r.retval, r.code })
    assert.equal("\2\1", r.data:sub(1, 2))
    assert.equal(packet:sub(6), r.data:sub(6))
    assert.equal("integer", math.type(r.duration_ns))
  end)

  it("takes packets of many pages", function()
    local p <close> = open "answer"
    assert.equal(65535, #p:run(("x"):rep(65535)).data)
  end)

  it("may make the packet longer", function()
    local p <close> = open "grow"
    local r = p:run(packet)
    assert.same({ "drop", 1, #packet + 20 }, { r.retval, r.code, #r.data })
    assert.equal(packet, r.data:sub(21))
  end)

  it("runs as often as asked", function()
    local p <close> = open "pass"
    local bss <close> = assert(tg.map.open(kinds.maps .. "/kinds_bss"))
    local before = bss:get(0).runs
    assert.equal("pass", p:run(packet, { ["repeat"] = 1000 }).retval)
    assert.equal(1000, bss:get(0).runs - before)
  end)

  it("sees the context given, and the CPU asked for", function()
    local p <close> = open "answer"
    local r = assert(p:run(packet, { ctx = { ingress_ifindex = 1, rx_queue_index = 0 } }))
    assert.equal("\1\0", r.data:sub(3, 4))
    local cpus = tonumber(object.run "nproc --all")
    for cpu = 0, cpus - 1 do assert.equal(cpu, p:run(packet, { cpu = cpu }).data:byte(5)) end
  end)

  it("of TC has TC's verdicts, as numbers where they have no name", function()
    local p <close> = open "shot"
    assert.same({ "pass", 0 }, { p:run(packet).retval, p:run(packet).code })
    assert.equal("drop", p:run(packet, { ctx = { mark = 7 } }).retval)
    assert.same({ type = "sched_cls", name = "shot", id = p:info().id }, p:info())
  end)

  it("meets live frames, and nothing comes back", function()
    local p <close> = open "grow" -- drops them
    local r = assert(p:run(packet, { live = true, ["repeat"] = 100, batch = 32, ctx = { ingress_ifindex = 1 } }))
    assert.is_nil(r.data)
  end)

  it("refuses what the kernel would, in words", function()
    local p <close> = open "answer"
    local function fails(message, ...)
      local args = table.pack(...)
      local ok, err = pcall(function()
        local _ = p:run(table.unpack(args, 1, args.n))
      end)
      assert.is_false(ok)
      assert.equal(message, (err:gsub("^.-prog_spec.lua:%d+: ", "")))
      assert.matches("prog_spec.lua:%d+: ", err)
    end
    fails("packet: 13 bytes given, from 14 (an Ethernet header) to 131072 go", packet:sub(1, 13))
    fails('unknown option "times" (options: repeat, ctx, cpu, live, batch, flags)', packet, { times = 3 })
    fails('ctx: unknown field "mark" (fields: ingress_ifindex, rx_queue_index, data)', packet, { ctx = { mark = 3 } })
    fails("repeat: an integer from 0 to 2147483647 expected, got -1", packet, { ["repeat"] = -1 })
    assert.same({ nil, "ctx: no such interface in this network namespace", "ENODEV" },
      { p:run(packet, { ctx = { ingress_ifindex = 999999 } }) })
    assert.equal("EINVAL", select(3, p:run(packet, { ctx = { ingress_ifindex = 1, rx_queue_index = 999 } })))
    assert.equal("ENOMEM", select(3, p:run(("x"):rep(100000))))
  end)

  it("that can't be opened is told why, and a closed one says so", function()
    local array = kinds.maps .. "/array"
    assert.same({ nil, array .. ": a pinned map, not a prog", "EINVAL" }, { prog.open(array) })
    assert.equal("ENOENT", select(3, prog.open(kinds.progs .. "/none")))
    local p = open "pass"
    assert.equal('program "pass"', tostring(p))
    p:close()
    assert.has_error(function() p:run(packet) end)
  end)
end)
