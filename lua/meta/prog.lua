---@meta tidegate.core.prog

--- Runs a pinned BPF program on a packet (BPF_PROG_TEST_RUN): `tg.prog`. A run is no dry run: the
--- program changes its maps, and what it redirects is really sent.
---@class tg.prog
local prog = {}

---@param path string  where the program is pinned
---@return tg.Prog? program, string? message, string? code
function prog.open(path) end

--- An open program. It closes itself when it is collected, or at the end of a block by `<close>`.
---@class tg.Prog
local Prog = {}

---@class tg.RunOptions
---@field repeat? integer  how often; the packet is not reset in between
---@field ctx? table<string, integer>  XDP: ingress_ifindex (in this network namespace), rx_queue_index,
--- data (where the packet begins in what is given: metadata is before it); TC: ifindex, ingress_ifindex, mark,
--- priority, gso_size, gso_segs
---@field cpu? integer  the CPU to run on, from 0
---@field live? boolean  XDP: the verdicts are carried out; there is no data in the result
---@field batch? integer  frames a batch, with live: up to 256
---@field flags? integer  BPF_F_TEST_…

---@class tg.RunResult
---@field retval string|integer  XDP: "aborted" "drop" "pass" "tx" "redirect"; TC: "pass" "drop" "redirect" "next"; else the code
---@field code integer
---@field data string?  the packet as the program left it
---@field duration_ns integer  of one run, on average

--- Runs the program on a packet of at least 14 bytes.
---@param packet string
---@param options? tg.RunOptions
---@return tg.RunResult? result, string? message, string? code
function Prog:run(packet, options) end

---@return { type: string, name: string, id: integer }
function Prog:info() end

function Prog:close() end

return prog
