--- Maps of every kind (tests/bpf/kinds.bpf.c), through the kernel and back.
local object = require "tests.helpers.object"
local map = tg.map

if object.refused() then
  pending("tg.map " .. object.refused())
  return
end

local kinds, here = nil, "map_spec.lua:%d+: "
setup(function() kinds = object.load "tests/bpf/kinds" end)
teardown(function() kinds:close() end)

local function open(name, types) return assert(map.open(kinds.maps .. "/" .. name, types)) end

--- The bytes that are really in the map.
local function raw(name, key, value_size, key_type)
  local m <close> = open(name, { key = key_type, value = "bytes:" .. value_size })
  return m:get(key)
end

local function raises(message, f, ...)
  local args = table.pack(...)
  local ok, err = pcall(function()
    local _ = f(table.unpack(args, 1, args.n)) -- from Lua: the error has to name this line
  end)
  assert.is_false(ok)
  assert.matches("^[^\n]*" .. here, err)
  assert.equal(message, (err:gsub("^.-" .. here, "")))
end

describe("an integer", function()
  local limits = {
    u8s = { 0, 255 }, u16s = { 0, 65535 }, u32s = { 0, 4294967295 },
    i8s = { -128, 127 }, i16s = { -32768, 32767 }, i32s = { -2147483648, 2147483647 },
    u64s = { 0, -1 }, i64s = { math.mininteger, math.maxinteger }, -- u64: the same bits
  }
  for name, limit in pairs(limits) do
    it("survives at both limits of " .. name:sub(1, -2), function()
      local m <close> = open(name)
      for _, n in ipairs { limit[1], limit[2], 1, 100 } do
        assert.is_true(m:set(n, n))
        assert.equal(n, m:get(n))
        assert.equal("integer", math.type(m:get(n)))
      end
    end)
    local kind = name:sub(1, -2)
    if kind:sub(2) ~= "64" then
      it("beyond the limits of " .. kind .. " is refused", function()
        local m <close> = open(name)
        local range = (" does not fit %s (%d to %d)"):format(kind, limit[1], limit[2])
        raises("value: " .. limit[2] + 1 .. range, m.set, m, 1, limit[2] + 1)
        raises("value: " .. limit[1] - 1 .. range, m.set, m, 1, limit[1] - 1)
        raises("key: " .. limit[2] + 1 .. range, m.get, m, limit[2] + 1)
      end)
    end
  end

  it("may come as a float that is whole, and as nothing else", function()
    local m <close> = open "u32s"
    assert.is_true(m:set(7, 3.0))
    assert.equal(3, m:get(7))
    raises("value: 3.5 is not an integer", m.set, m, 7, 3.5)
    raises("value: integer expected, got string", m.set, m, 7, "3")
    raises("value: integer expected, got nil", m.set, m, 7, nil)
    raises("key: integer expected, got table", m.get, m, {})
  end)

  it("of 128 bits is a string of 16 bytes", function()
    local m <close> = open "i128s"
    local n = string.pack("<i8i8", 5, -1)
    m:set(1, n)
    assert.equal(n, m:get(1))
    raises("value: 3 bytes given, 16 needed", m.set, m, 1, "abc")
  end)
end)

describe("numbers of other kinds", function()
  it("are booleans, and nothing that only looks like one", function()
    local m <close> = open "bools"
    m:set(true, false)
    m:set(false, true)
    assert.same({ [true] = false, [false] = true }, m:to_table())
    raises("value: boolean expected, got number", m.set, m, true, 1)
  end)

  it("are floats, single ones rounded, and typedefs, big-endian ones swapped", function()
    local m <close> = open "numbers"
    local given = { single = 0.1, number = 0.1, port = 80, be_port = 443, be_address = 0x0a000001, be_cookie = 1 }
    m:set(1, given)
    local got = m:get(1)
    assert.equal(string.unpack("f", string.pack("f", 0.1)), got.single)
    got.single = 0.1
    assert.same(given, got)
    assert.equal(string.pack("<fxxxxd I2 >I2I4I8", 0.1, 0.1, 80, 443, 0x0a000001, 1), raw("numbers", 1, 32))
    raises("value.single: 1e+300 does not fit f32", m.set, m, 1, { single = 1e300 })
    raises("value.be_port: 65536 does not fit u16 (0 to 65535)", m.set, m, 1, { be_port = 65536 })
  end)

  it("are enums: names where there is one, the first of equals", function()
    local m <close> = open "states"
    m:set("STATE_CLOSED", { state = "STATE_LAST", level = "BELOW", narrow = "STATE_OPEN" })
    m:set(1, { state = 99, level = -5, narrow = 6 })
    assert.same({
      STATE_CLOSED = { state = "STATE_CLOSED", level = "BELOW", narrow = "STATE_OPEN" },
      STATE_OPEN = { state = 99, level = -5, narrow = 6 },
    }, m:to_table())
    raises('key: "DONE" is not in enum state (STATE_NEW, STATE_OPEN, STATE_CLOSED, STATE_LAST)', m.get, m, "DONE")
    raises("value.state: name or integer expected, got boolean", m.set, m, 0, { state = true })
    raises("value.narrow: 8 does not fit u3 (0 to 7)", m.set, m, 0, { narrow = 8 })
  end)
end)

describe("arrays", function()
  it("are lists, of records and of arrays too; bytes may come as a string", function()
    local m <close> = open "lists"
    local value = {
      name = "uplink", mac = { 2, 0, 0, 0, 0, 255 }, ports = { 80, 443, 65535 }, grid = { { 1, 2, 3 }, { 4, 5, 6 } },
      points = { { x = 1, y = -1 }, { x = 2, y = -2 } }, flags = { true, false },
    }
    m:set(1, value)
    assert.same(value, m:get(1))
    assert.equal(string.pack("<c8 c6 I2I2I2 I4I4I4I4I4I4 i4i4i4i4 BBxx", "uplink\0\0", "\2\0\0\0\0\255", 80, 443, 65535,
      1, 2, 3, 4, 5, 6, 1, -1, 2, -2, 1, 0), raw("lists", 1, 64))
    m:set(1, { mac = "\1\2\3\4\5\6", name = "eightchr" })
    assert.same({ 1, 2, 3, 4, 5, 6 }, m:get(1).mac)
    assert.equal("eightchr", m:get(1).name)
  end)

  it("leave zero what is not given, and refuse what does not fit", function()
    local m <close> = open "lists"
    m:set(1, { ports = { 7, [3] = 9 }, points = { [2] = { y = 5 } } })
    local got = m:get(1)
    assert.same({ 7, 0, 9 }, got.ports)
    assert.same({ { x = 0, y = 0 }, { x = 0, y = 5 } }, got.points)
    raises("value.ports[4]: the array has 3 elements, from 1", m.set, m, 1, { ports = { 1, 2, 3, 4 } })
    raises("value.ports[0]: the array has 3 elements, from 1", m.set, m, 1, { ports = { [0] = 1 } })
    raises("value.ports: a list has no key http", m.set, m, 1, { ports = { http = 80 } })
    raises("value.grid[2][3]: integer expected, got string", m.set, m, 1, { grid = { {}, { 1, 2, "3" } } })
    raises("value.mac: 5 bytes given, 6 needed", m.set, m, 1, { mac = "\1\2\3\4\5" })
    raises("value.name: 9 bytes given, there is room for 8", m.set, m, 1, { name = "ninechars" })
    raises('value.points[2]: unknown field "z" (fields: x, y)', m.set, m, 1, { points = { {}, { z = 1 } } })
  end)

  it("of char are text, as keys too", function()
    local m <close> = open "labels"
    assert.equal(3, m:batch_set { a = 1, [("x"):rep(16)] = 2, [""] = 3 })
    assert.same({ a = 1, [("x"):rep(16)] = 2, [""] = 3 }, m:to_table())
    assert.equal(1, m:get "a")
    assert.equal(string.pack("<I4", 1), raw("labels", "a" .. ("\0"):rep(15), 4, "bytes:16"))
  end)
end)

describe("records", function()
  local key = { saddr = 0xc0000207, daddr = 0xc6336401, sport = 40000, dport = 443, proto = 6 }

  it("take anonymous members into themselves, and keep padding zero", function()
    local m <close> = open "sessions"
    local value = {
      forward = key, back = { sport = 443 }, packets = 5, bytes = 700, whole = 0x00020001, named = { wide = 258 },
    }
    m:set(key, value)
    local got = m:get(key)
    assert.same(key, got.forward)
    assert.same({ 5, 700, 0x20001, 1, 2 }, { got.packets, got.bytes, got.whole, got.low, got.high })
    assert.same({ wide = 258, bytes8 = { 2, 1, 0, 0, 0, 0, 0, 0 } }, got.named)
    local flow = string.pack(">I4I4 <I2I2Bxxx", 0xc0000207, 0xc6336401, 40000, 443, 6)
    local bytes = raw("sessions", flow, 56, "bytes:16")
    assert.equal(flow .. string.pack("<I4I4 I2I2Bxxx I4I4 I2I2 xxxx I8", 0, 0, 443, 0, 0, 5, 700, 1, 2, 258), bytes)
  end)

  it("come back from a map fit to be set again, unions included", function()
    local m <close> = open "sessions"
    m:set(key, { whole = 0xdeadbeef, named = { bytes8 = { 1, 2, 3, 4, 5, 6, 7, 8 } } })
    local got = m:get(key)
    assert.is_true(m:set(key, got))
    assert.same(got, m:get(key))
  end)

  it("refuse members of a union that contradict each other", function()
    local m <close> = open "sessions"
    local ok, err = pcall(m.set, m, key, { whole = 1, low = 2 })
    assert.is_false(ok)
    assert.matches('value: "%w+" and "%w+" share memory and differ: give one$', err)
    assert.is_true(m:set(key, { whole = 0x30002, low = 2 }))
    assert.is_true(m:set(key, { low = 2, high = 3 }))
    assert.equal(0x30002, m:get(key).whole)
  end)

  it("name what they do not know", function()
    local m <close> = open "sessions"
    raises('key: unknown field "port" (fields: saddr, daddr, sport, dport, proto)', m.get, m, { port = 80 })
    raises("key: unknown field 1 (fields: saddr, daddr, sport, dport, proto)", m.get, m, { 80 })
    raises("key: table expected, got number", m.get, m, 80)
    raises("value.forward.dport: 70000 does not fit u16 (0 to 65535)", m.set, m, key, { forward = { dport = 70000 } })
  end)

  it("hold bit fields, signed ones too", function()
    local m <close> = open "bits"
    for _, v in ipairs {
      { a = 7, b = 0, c = -16, last = 8191, wide = 0, sign = -1, flag = false },
      { a = 0, b = 127, c = 15, last = 0, wide = (1 << 60) - 1, sign = 0, flag = true },
      { a = 5, b = 85, c = -1, last = 4660, wide = 0x123456789abcdef, sign = -1, flag = true },
    } do
      m:set(1, v)
      assert.same(v, m:get(1))
      local low = v.a | v.b << 3 | (v.c & 31) << 10 | v.last << 19
      local high = v.wide | (v.sign & 1) << 60 | (v.flag and 1 or 0) << 61
      assert.equal(string.pack("<I4xxxxi8", low, high), raw("bits", 1, 16))
    end
    raises("value.c: 16 does not fit i5 (-16 to 15)", m.set, m, 1, { c = 16 })
    raises("value.a: 8 does not fit u3 (0 to 7)", m.set, m, 1, { a = 8 })
    raises("value.sign: 1 does not fit i1 (-1 to 0)", m.set, m, 1, { sign = 1 })
    raises("value.flag: boolean expected, got number", m.set, m, 1, { flag = 1 })
  end)
end)

describe("a per-CPU map", function()
  local cpus = tonumber(object.run [[awk -F- '{ print $NF + 1 }' /sys/devices/system/cpu/possible]])

  local function numbers(n)
    local list = {}
    for i = 1, n do list[i] = i * 10 end
    return list
  end

  it("has a list of values, one for each possible CPU, and their sum", function()
    local m <close> = open "cpu_counters"
    local values, packets = {}, 0
    for cpu = 1, cpus do
      values[cpu] = { packets = cpu, bytes = 1 << 40, name = "c" .. cpu }
      packets = packets + cpu
    end
    assert.is_true(m:set(2, values))
    assert.same(values, m:get(2))
    assert.same({ packets = packets, bytes = cpus << 40 }, m:sum(2))
    assert.equal(cpus, m:info().cpus)
  end)

  it("takes one value for all CPUs", function()
    local m <close> = open "cpu_counters"
    m:set(1, { packets = 3 })
    assert.equal(cpus, #m:get(1))
    assert.same({ packets = 3 * cpus, bytes = 0 }, m:sum(1))
    local plain <close> = open "cpu_u32s"
    plain:set(5, 7)
    assert.equal(7 * cpus, plain:sum(5))
    assert.is_nil(plain:sum(6))
    local message = ("value: a list of %d expected, one for each possible CPU, got %d"):format(cpus, cpus + 1)
    raises(message, plain.set, plain, 5, numbers(cpus + 1))
  end)

  it("is set and read whole", function()
    local m <close> = open "cpu_u32s"
    for k in m:pairs() do m:delete(k) end
    local list = numbers(cpus)
    assert.equal(2, m:batch_set { [1] = list, [2] = 9 })
    local got = m:to_table()
    assert.same(list, got[1])
    assert.equal(9, got[2][cpus])
    list[1] = -1
    raises("value[1]: -1 does not fit u32 (0 to 4294967295)", m.set, m, 1, list)
  end)
end)

describe("a map", function()
  it("tells what it is", function()
    local m <close> = open "sessions"
    local info = m:info()
    assert.equal("hash", info.type)
    assert.same({ "sessions", 16, 56, 16, 0 },
      { info.name, info.key_size, info.value_size, info.max_entries, info.flags })
    assert.equal("struct flow { be32 saddr; be32 daddr; u16 sport; u16 dport; u8 proto; }", info.key)
    assert.matches("^struct session { struct flow { .- } forward; ", info.value)
    assert.matches(" u16 low; u16 high; union { u64 wide; u8 bytes8%[8%]; } named; }$", info.value)
    assert.equal('map "sessions" (hash)', tostring(m))
    local bits <close> = open "bits"
    assert.equal("struct bits { u32 a:3; u32 b:7; i32 c:5; u32 last:13; u64 wide:60; i64 sign:1; bool flag:1; }",
      bits:info().value)
  end)

  it("answers nil for a key that it does not have, and whether it deleted one", function()
    local m <close> = open "lru"
    assert.equal(1, select("#", m:get(1)))
    assert.is_nil(m:get(1))
    m:set(1, 2)
    assert.is_true(m:delete(1))
    assert.is_false(m:delete(1))
  end)

  it("distinguishes new keys from those that exist", function()
    local m <close> = open "lru"
    assert.same({ nil, "no such key", "ENOENT" }, { m:set(1, 1, "exist") })
    assert.is_true(m:set(1, 1, "new"))
    assert.same({ nil, "the key exists", "EEXIST" }, { m:set(1, 1, "new") })
    assert.has_error(function() m:set(1, 1, "maybe") end)
  end)

  it("says that it is full", function()
    local m <close> = open "u32s"
    for k in m:pairs() do m:delete(k) end
    for i = 1, 8 do assert.is_true(m:set(i, i)) end
    assert.same({ nil, "map is full (8 entries)", "E2BIG" }, { m:set(9, 9) })
    local array <close> = open "array"
    assert.same({ nil, "no such index: the map has 8 entries, from 0", "E2BIG" }, { array:set(8, 1) })
    assert.is_nil(array:get(8))
    assert.same({ nil, "a map of kind array does not do this with this key or value", "EINVAL" }, { array:delete(1) })
  end)

  it("that was closed says so, and closes at the end of a block", function()
    local m = open "u32s"
    do
      local _ <close> = m
    end
    raises("the map is closed", m.get, m, 1)
    m:close()
    assert.equal('map "u32s" (closed)', tostring(m))
    assert.has_error(function() map.open(kinds.maps .. "/u32s").get({}, 1) end)
  end)

  it("that is frozen is not written", function()
    local path = kinds:plain_map("frozen", "type array key 4 value 4 entries 2")
    object.run("bpftool map freeze pinned " .. path)
    local m <close> = open("frozen", { value = "u32" })
    assert.equal(0, m:get(1))
    assert.equal("EPERM", select(3, m:set(1, 1)))
  end)
end)

describe("a whole map", function()
  local function fill(m, n)
    local t = {}
    for i = 1, n do t[i] = i * 3 end
    assert.equal(n, m:batch_set(t))
    return t
  end

  it("is set and read in batches", function()
    local m <close> = open "large"
    local t = fill(m, 100000) -- more than one system call's worth
    assert.same(t, m:to_table())
    assert.equal(0, m:batch_set {})
    for k in m:pairs() do m:delete(k) end
    assert.same({}, m:to_table())
  end)

  it("can be gone through while its keys are deleted and others added", function()
    local m <close> = open "large"
    local t, seen = fill(m, 3000), 0
    for k, v in pairs(m) do
      assert.equal(t[k], v)
      t[k] = nil
      seen = seen + 1
      assert.is_true(m:delete(k))
    end
    assert.equal(3000, seen)
    assert.is_nil(next(t))
    assert.is_nil(m:pairs()())
  end)

  it("of prefixes is gone through once, although its kernel walk starts over at a deleted key", function()
    local m <close> = open "prefixes"
    local list = {}
    for i = 0, 799 do list[#list + 1] = { { length = 32, address = { 10, 0, i // 256, i % 256 } }, i } end
    assert.equal(800, m:batch_set(list))
    assert.equal(3, m:get { length = 32, address = "\10\0\0\3" })
    assert.equal(800, #m:to_table())
    assert.same({ length = 32, address = { 10, 0, 0, 0 } }, m:to_table()[1][1])
    local seen = 0
    for k, v in m:pairs() do
      assert.equal(v, k.address[3] * 256 + k.address[4])
      seen = seen + 1
      if seen % 2 == 0 then assert.is_true(m:delete(k)) end -- the last of a page of 256 too
    end
    assert.equal(800, seen)
  end)

  it("of large values is read too", function()
    local path = kinds:plain_map("huge", "type array key 4 value 3000000 entries 5")
    local m <close> = assert(map.open(path, { value = "bytes:3000000" }))
    local value, seen = ("v"):rep(3000000), 0
    for i = 0, 4 do assert.is_true(m:set(i, value)) end
    for _, v in m:pairs() do
      seen = seen + 1
      assert.is_true(v == value)
    end
    assert.equal(5, seen)
  end)

  it("without batches in the kernel is set and read one by one", function()
    local path = kinds:plain_map("devices", "type devmap_hash key 4 value 4 entries 700")
    local m <close> = assert(map.open(path, { key = "u32", value = "u32" }))
    local t = {}
    for i = 1, 600 do t[i * 7] = 1 end -- ifindex 1: lo
    assert.equal(600, m:batch_set(t))
    assert.same(t, m:to_table())
    local seen = 0
    for k in m:pairs() do
      assert.is_true(m:delete(k))
      seen = seen + 1
    end
    assert.equal(600, seen)
    t[1] = 99999999
    local n, message, code = m:batch_set { [5] = 99999999 }
    assert.is_nil(n)
    assert.matches("; 0 of 1 keys are set$", message)
    assert.equal("EINVAL", code)
  end)

  it("that gets full says how far it came", function()
    local m <close> = open "u64s"
    for k in m:pairs() do m:delete(k) end
    assert.same({ nil, "map is full (8 entries); 8 of 10 keys are set", "E2BIG" },
      { m:batch_set { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 } })
  end)

  it("is not touched by a batch with a fault in it", function()
    local m <close> = open "u16s"
    for k in m:pairs() do m:delete(k) end
    raises("value: 70000 does not fit u16 (0 to 65535)", m.batch_set, m, { 1, 2, 70000 })
    raises("key: integer expected, got string", m.batch_set, m, { a = 1 })
    assert.same({}, m:to_table())
    local s <close> = open "prefixes"
    raises("a list of { key, value } expected, since the key is no plain value", s.batch_set, s, { a = 1 })
    raises("[2]: { key, value } expected, got number", s.batch_set, s, { { { length = 0 }, 1 }, 7 })
  end)
end)

describe("maps of other kinds", function()
  it("are queues", function()
    local m <close> = open("queue", { value = "u32" })
    assert.is_nil(m:get())
    assert.is_true(m:set(nil, 5))
    assert.is_true(m:set(nil, 6))
    assert.equal(5, m:get())
    assert.equal(5, m:pop())
    assert.equal(6, m:pop())
    assert.is_nil(m:pop())
    raises("a map of kind queue has no keys to go through", m.pairs, m)
  end)

  it("hold maps and programs, which are read as ids", function()
    local outer <close> = open("outer", { key = "u32" })
    local inner <close> = open "array"
    assert.is_true(outer:set(1, inner))
    assert.equal(inner:info().id, outer:get(1))
    assert.has_error(function() outer:set(2, 7) end)
    local programs <close> = open "programs"
    local pass <close> = assert(tg.prog.open(kinds.progs .. "/pass"))
    assert.is_true(programs:set(0, pass))
    assert.equal(pass:info().id, programs:get(0))
    assert.same({ [0] = pass:info().id }, programs:to_table())
  end)

  it("are sections of variables", function()
    local data <close> = open "kinds_data"
    assert.same({ origin = { x = 3, y = -4 } }, data:get(0))
    assert.is_true(data:set(0, { origin = { x = 8, y = 9 } }))
    assert.same({ x = 8, y = 9 }, data:get(0).origin)
    data:set(0, { origin = { x = 3, y = -4 } })
  end)
end)

describe("types given by hand", function()
  it("make a map without BTF usable", function()
    local path = kinds:plain_map("plain", "type hash key 6 value 24 entries 4")
    assert.same({ nil, 'the map has no BTF for its key: give its type, such as { key = "bytes:6" }', "EINVAL" },
      { map.open(path) })
    local m <close> = assert(map.open(path, {
      key = { { "addr", "be32" }, { "port", "be16" }, packed = true },
      value = {
        { "flag", "bool" }, { "n", "i32" }, { "ports", "u16[2]" },
        { "points", { { "x", "i8" }, { "y", "i8" } }, 2 }, { "name", "chars:8" },
      },
    }))
    local key = { addr = 0x0a000001, port = 80 }
    local points = { { x = 1, y = -1 }, { x = 2, y = -2 } }
    local value = { flag = true, n = -5, ports = { 1, 2 }, points = points, name = "abc" }
    assert.is_true(m:set(key, value))
    assert.same(value, m:get(key))
    assert.equal(string.pack("<Bxxx i4 I2I2 bbbb c8", 1, -5, 1, 2, 1, -1, 2, -2, "abc\0\0\0\0\0"),
      raw("plain", string.pack(">I4I2", 0x0a000001, 80), 24, "bytes:6"))
    assert.equal("{ be32 addr; be16 port; }", m:info().key)
  end)

  it("are checked", function()
    local path = kinds.maps .. "/plain"
    local names = " is not a type (u8 to u64, i8 to i64, be16 be32 be64, bool, f32, f64, chars:N, bytes:N, "
      .. "or one of them with [N])"
    raises('key: "u31"' .. names, map.open, path, { key = "u31" })
    raises('value.x: "u8[0]"' .. names, map.open, path, { value = { { "x", "u8[0]" } } })
    raises('value: two fields are called "x"', map.open, path, { value = { { "x", "u8" }, { "x", "u8" } } })
    raises("value: { name, type } expected, got string", map.open, path, { value = { "u8" } })
    raises("value: not a type: a list of { name, type } expected, at most 16 deep", map.open, path, { value = {} })
    raises('unknown option "vlaue" (options: key, value)', map.open, path, { vlaue = "u8" })
    assert.same({ nil, "key: the type has 4 bytes, the map's key 6", "EINVAL" },
      { map.open(path, { key = "u32", value = "bytes:24" }) })
  end)
end)

describe("what can't be opened", function()
  it("is told by field and kind, with a way out", function()
    local function refused(name, what, size)
      local way_out = (' has no value in Lua (open it with { value = "bytes:%d" } for raw bytes)'):format(size)
      assert.same({ nil, what .. way_out, "EOPNOTSUPP" }, { map.open(kinds.maps .. "/" .. name) })
    end
    refused("locked", "value.lock: struct bpf_spin_lock", 8)
    refused("pointing", "value.inside.address: a pointer", 16)
    local m <close> = open("locked", { value = "bytes:8" })
    assert.equal("u32", m:info().key)
  end)

  it("is told: BTF of others without CAP_SYS_ADMIN, where types help", function()
    local script = kinds.dir:gsub("%W", "_")
    script = "/tmp/" .. script .. ".lua"
    local file = assert(io.open(script, "w"))
    file:write "local m = tg.map.open print(m(arg[1])) print(m(arg[1], { key = 'u32', value = 'u64' }))"
    file:close()
    local text = object.run(("setpriv --bounding-set=-sys_admin %s lua %s %s/large")
      :format(object.tidegate(), script, kinds.maps))
    os.remove(script)
    assert.equal("nil\treading the map's BTF needs CAP_SYS_ADMIN "
      .. '(or give the types: { key = "bytes:4", value = "bytes:8" })\tEPERM\nmap "large" (hash)', text)
  end)

  it("is told: nothing there, not a map, no BPF file system", function()
    local none, pass = kinds.maps .. "/none", kinds.progs .. "/pass"
    assert.same({ nil, none .. ": No such file or directory", "ENOENT" }, { map.open(none) })
    assert.same({ nil, pass .. ": a pinned prog, not a map", "EINVAL" }, { map.open(pass) })
    assert.same({ nil, "/dev/null: not in a BPF file system", "EINVAL" }, { map.open "/dev/null" })
    assert.has_error(function() map.open() end)
  end)
end)
