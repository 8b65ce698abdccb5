-- SPDX-License-Identifier: GPL-2.0-only
--- The plan: what would change between the state in force and a desired one (see desired.lua), as
--- lines for people and for programs.

local address = require "tidegate.address"
local desired = require "tidegate.desired"

local plan = {}

local Plan = {}
local meta = { __index = Plan }

function Plan:note(op, kind, name, detail)
  self.changes[#self.changes + 1] = { op = op, kind = kind, name = name, detail = detail }
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
      self:note("+", "backend", name .. "/" .. key, "added" .. weight)
    else
      if a.weight ~= b.weight then
        self:note("~", "backend", name .. "/" .. key, ("weight %d -> %d"):format(a.weight, b.weight))
      end
      if a.admin ~= b.admin then
        self:note("~", "backend", name .. "/" .. key, ("admin %s -> %s"):format(a.admin, b.admin))
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
    if not old[key] then self:note("+", "vip", name .. " " .. key) end
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
      self:note("+", "service", name, describe(b))
    else
      for _, field in ipairs { "mode", "fail", "slots", "drain" } do
        if a[field] ~= b[field] and a[field] ~= nil then
          self:note("~", "service", name, ("%s %s -> %s"):format(field, a[field], b[field]))
        end
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
      self:note("+", "port", name, "attach, xdp " .. now[name].xdp)
    elseif was[name].xdp and was[name].xdp ~= now[name].xdp then
      self:note("~", "port", name, ("xdp %s -> %s"):format(was[name].xdp, now[name].xdp))
    end
  end
  for _, name in ipairs(desired.names(was)) do
    if not now[name] then self:note("-", "port", name, "detach") end
  end
end

--- Compares two states; `acts` are what would be done once, after the commit.
function plan.new(was, now, acts)
  local self = setmetatable({ changes = {}, acts = {} }, meta)
  diff_services(self, was.services, now.services)
  diff_ports(self, was.ports, now.ports)
  for i, act in ipairs(acts or {}) do self.acts[i] = { text = act.text, position = act.position } end
  return self
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
