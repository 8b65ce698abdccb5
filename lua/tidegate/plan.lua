-- SPDX-License-Identifier: GPL-2.0-only
--- The plan: what would change between the state in force and a desired one (see desired.lua), as
--- lines for people and for programs.

local address = require "tidegate.address"
local attachment = require "tidegate.attachment"
local desired = require "tidegate.desired"
local lists = require "tidegate.lists"
local mirrors = require "tidegate.mirrors"
local policy_plan = require "tidegate.policy.plan"
local quic = require "tidegate.quic"

local plan = {}

local Plan = {}
local meta = { __index = Plan }

function Plan:note(op, kind, name, detail)
  self.changes[#self.changes + 1] = { op = op, kind = kind, name = name, detail = detail }
end

--- The same of something about a service, which is touched by it.
function Plan:note_service(service, op, kind, name, detail)
  self.touched[service] = true
  self:note(op, kind, name, detail)
end

local function by_name(list, name_of)
  local result = {}
  for _, entry in ipairs(list) do result[name_of(entry)] = entry end
  return result
end

local function backend_name(backend)
  return backend.name
end

--- What is worth saying of a check: its key has all that it asks.
local function check_text(backend)
  return backend.check and backend.check.key or "none"
end

local function diff_backends(self, name, was, now)
  local old, new = by_name(was.backends, backend_name), by_name(now.backends, backend_name)
  for _, key in ipairs(desired.names(new)) do
    local a, b = old[key], new[key]
    local weight = b.weight ~= 1 and (" weight %d"):format(b.weight) or ""
    if not a then
      self:note_service(name, "+", "backend", name .. "/" .. key, "added" .. weight)
    else
      if a.weight ~= b.weight then
        self:note("~", "backend", name .. "/" .. key, ("weight %d -> %d"):format(a.weight, b.weight))
      end
      if a.admin ~= b.admin then
        self:note("~", "backend", name .. "/" .. key, ("admin %s -> %s"):format(a.admin, b.admin))
      end
      if now.quic and a.quic_id and a.quic_id ~= b.quic_id then
        self:note("~", "backend", name .. "/" .. key, ("QUIC server ID %d -> %d"):format(a.quic_id, b.quic_id))
      end
      if (a.backup or false) ~= (b.backup or false) then
        self:note("~", "backend", name .. "/" .. key, b.backup and "becomes a backup" or "is no backup any more")
      end
      if not was.adopted and check_text(a) ~= check_text(b) then
        self:note("~", "backend", name .. "/" .. key, "another check")
      end
    end
  end
  for _, key in ipairs(desired.names(old)) do
    if not new[key] then self:note("-", "backend", name .. "/" .. key, "removed") end
  end
end

local function diff_vips(self, name, was, now)
  local old, new = by_name(was.vips, address.format_vip), by_name(now.vips, address.format_vip)
  for _, key in ipairs(desired.names(new)) do
    if not old[key] then self:note_service(name, "+", "vip", name .. " " .. key) end
  end
  for _, key in ipairs(desired.names(old)) do
    if not new[key] then self:note("-", "vip", name .. " " .. key) end
  end
end

local function describe(spec)
  local vips = {}
  for i, vip in ipairs(spec.vips) do vips[i] = address.format_vip(vip) end
  return ("%s %s, %d backends"):format(spec.mode, table.concat(vips, " "), #spec.backends)
end

local function diff_services(self, was, now)
  for _, name in ipairs(desired.names(now)) do
    local a, b = was[name], now[name]
    if not a then
      self:note_service(name, "+", "service", name, describe(b))
    else
      for _, field in ipairs { "mode", "fail", "slots", "drain", "affinity" } do
        if a[field] ~= b[field] and a[field] ~= nil then
          self:note_service(name, "~", "service", name, ("%s %s -> %s"):format(field, a[field], b[field]))
        end
      end
      local before, after = quic.describe(a.quic), quic.describe(b.quic)
      if before ~= after then
        self:note("~", "service", name, ("quic %s -> %s"):format(before, after))
      end
      diff_vips(self, name, a, b)
      diff_backends(self, name, a, b)
    end
  end
  for _, name in ipairs(desired.names(was)) do
    if not now[name] then self:note("-", "service", name, describe(was[name])) end
  end
end

local function diff_ports(self, was, now)
  for _, name in ipairs(desired.names(now)) do
    if not was[name] then
      self:note("+", "port", name, attachment.text(now[name]))
    else
      for _, text in ipairs(attachment.changes(was[name], now[name])) do self:note("~", "port", name, text) end
    end
  end
  for _, name in ipairs(desired.names(was)) do
    if not now[name] then self:note("-", "port", name, "detach") end
  end
end

local function tunnel_text(tunnel)
  return ("source %s/%d %s/%d, gue port %d"):format(tunnel.source4.addr, tunnel.source4.length, tunnel.source6.addr,
    tunnel.source6.length, tunnel.gue_port)
end

local function diff_tunnel(self, was, now)
  if not was.tunnel or not now.tunnel or not desired.tunnels(was.features & now.features) then return end
  local old, new = tunnel_text(was.tunnel), tunnel_text(now.tunnel)
  if old ~= new then self:note("~", "instance", "tunnel", ("%s -> %s"):format(old, new)) end
end

local function diff_limits(self, was, now)
  for _, name in ipairs { "client_flows", "flows", "idle" } do
    local old, new = (was.limits or now.limits)[name], now.limits[name]
    if old ~= new then
      local later = name == "flows" and ", when the instance is loaded anew: unload, run" or ""
      self:note("~", "instance", name, ("%s -> %s%s"):format(old or "default", new or "default", later))
    end
  end
end

local function note_list(self, list)
  local name = ("%s %s"):format(list.verdict, list.name)
  local parts = {}
  local function part(count, text)
    if count > 0 then parts[#parts + 1] = ("%d %s"):format(count, text) end
  end
  part(list.added, "added")
  part(list.removed, "removed")
  part(list.changed, "changed")
  part(list.absorbed, "of an operator's are the file's now")
  if list.declared_anew then parts[#parts + 1] = "what the files say counts again, not what replaced it" end
  if #parts == 0 then return end
  local op = list.before == 0 and "+" or list.after == 0 and "-" or "~"
  self:note(op, "list", name, ("%s (%d prefixes)"):format(table.concat(parts, ", "), list.after))
end

local function diff_lists(self, draft)
  local plans = assert(lists.plan(draft))
  table.sort(plans, function(a, b) return a.name < b.name end)
  for _, list in ipairs(plans) do note_list(self, list) end
end

--- Compares two states, and waits for it; `acts` are what would be done once, after the commit.
function plan.new(was, now, acts)
  local self = setmetatable({ changes = {}, acts = {}, touched = {}, touched_mirrors = {} }, meta)
  diff_services(self, was.services, now.services)
  diff_ports(self, was.ports, now.ports)
  diff_tunnel(self, was, now)
  diff_limits(self, was, now)
  diff_lists(self, now.lists)
  policy_plan.diff(self, was.policy, now.policy)
  mirrors.plan(self, was.mirrors or {}, now.mirrors)
  for i, act in ipairs(acts or {}) do self.acts[i] = { text = act.text, position = act.position } end
  return self
end

--- The mirrors that are new or change: name → true.
function Plan:mirrors()
  return self.touched_mirrors
end

--- The services that something changes of, but for those that go: name → true.
function Plan:services()
  return self.touched
end

--- Would anything change?
function Plan:empty()
  return #self.changes == 0 and #self.acts == 0
end

--- The lines for people.
function Plan:text()
  local lines = {}
  for _, change in ipairs(self.changes) do
    local detail = change.detail and ": " .. change.detail or ""
    lines[#lines + 1] = ("%s %s %s%s"):format(change.op, change.kind, change.name, detail)
  end
  for _, act in ipairs(self.acts) do
    lines[#lines + 1] = ("! act %s (%s)"):format(act.text, act.position)
  end
  if #lines == 0 then return "nothing would change\n" end
  return table.concat(lines, "\n") .. "\n"
end

return plan
