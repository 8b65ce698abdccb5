---@meta tidegate.capture

--- Captures: packets of a port, with what became of them, into pcapng files. Each packet has its direction, and a
--- comment: `verdict drop, rule dns (policy.lua:12)`.

---@class tg.CaptureOptions
---@field file string  a new file, by its path from the root: mode 0600, never written over, no symbolic link followed
---@field match? tg.Match  which packets; all
---@field filter? string  which of those, as a tcpdump expression; the bytes beyond `snap` can't be asked for
---@field direction? "both"|"ingress"|"egress"  both
---@field snap? integer  bytes of a packet at most: 14 to 65,536; 65,536
---@field packets? integer  it ends after so many,
---@field seconds? number|string  after so long: 0.01 to a year,
---@field bytes? integer|string  and before its file is larger: 4,096 and more, or `"100M"`; 1 GiB

---@class tg.Port
local Port = {}

--- Starts a capture: at a file's top level after the commit, else at once. It ends at one of its limits, with the
--- generation whose task began it, and when nothing more can be written, a full disk say: the file keeps what was
--- written. Refused: `EEXIST` and what else the file's system says; `ENOSPC`: 32 mirrors and captures are there
--- already.
---@param options tg.CaptureOptions
---@return tg.Capture? capture, string? message, string? code
function Port:capture(options) end

--- The captures of the port that run.
---@return tg.Capture[]
function Port:captures() end

---@class tg.Capture
---@field port string
---@field state "queued"|"starting"|"running"|"ended"
local Capture = {}

--- Ends it, and waits until its file is complete.
---@return tg.CaptureStatus
function Capture:stop() end

--- The same without waiting.
function Capture:cancel() end

--- Waits until it has ended.
---@return tg.CaptureStatus
function Capture:wait() end

---@return tg.CaptureStatus
function Capture:status() end

---@class tg.CaptureStatus
---@field state "queued"|"starting"|"running"|"ended"
---@field port string
---@field file string
---@field ended? "packets"|"bytes"|"seconds"|"stopped"|"failed"  why
---@field error? string  why it failed,
---@field code? string  and as an errno's name: `ENOSPC`
---@field packets integer  written
---@field bytes integer  of them, as long as they were on the wire
---@field size integer  bytes of the file
---@field filtered integer  packets that the expression did not want
---@field lost { ring: integer, slow: integer }  packets: the ring was full; the disk, or a pipe's reader, was too slow
