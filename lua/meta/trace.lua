---@meta
--- Types of tg.trace, for editors.

--- A table that a packet consulted; beside these, what was found there by names.
---@class tg.TraceStep
---@field table string  "vips", "rings", "backends", "routes", …; "fib": the kernel's routes and neighbours
---@field key string  what was looked up: "198.51.100.10:443/tcp"
---@field hit boolean
---@field list string?  of "deny": the list that decides,
---@field kind "deny"|"allow"|nil  and what it does

---@class tg.Trace
---@field verdict "pass"|"drop"|"tx"|"redirect"|"aborted"
---@field reason string  as `status` counts them: "not-vip", "no-backend", …; "forward"
---@field port string?  the port that the packet leaves by
---@field steps tg.TraceStep[]  the tables consulted, in order
---@field changes { field: string, from: any, to: any }[]  what is rewritten: { field = "ip.dst", … }
---@field packet tg.Packet  what comes out
