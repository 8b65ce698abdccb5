---@meta

--- Health checks. `{ "tcp" }` and `{ "http", path = "/healthz" }` are probed in C; others are functions
--- that a script defines. After `fall` failures in a row a backend leaves the ring, after `rise`
--- successes it is back.

---@class tg.CheckOptions
---@field [1] "tcp"|"http"|string  the kind: a defined check's name otherwise
---@field interval? number|string  seconds between two probes; 1
---@field timeout? number|string  seconds for all of a probe; the interval, at most 1
---@field rise? integer  2
---@field fall? integer  3
---@field port? integer  instead of the backend's
---@field path? string  http: `"/"`
---@field host? string  http: the Host header; the backend's address
---@field method? string  http: `"GET"`
---@field status? integer|string  http: the answer that is good, `200` or `"200-299"`
---@field [string] any  of a defined check: its own arguments

---@class tg.check
local check = {}

--- Defines a check; at a file's top level. `fn` runs as a task for each probe, so it may wait; it gets the
--- endpoint to probe and the check's own arguments, and returns whether that is up and, if not, why. An
--- error in it, or more time than `timeout`, is a failed probe.
---@param name string
---@param fn fun(target: tg.Target, args: table): boolean, string?
function check.define(name, fn) end

---@class tg.Target
---@field addr string
---@field port integer

return check
